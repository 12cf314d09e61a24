"""The use case Issue: authenticates a user or client, decides the grant, and returns tokens.

The secrets are checked by `authenticate.py`; the JWTs are made by `token_maker.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.credential_errors import DpopNonceRequiredError, UnauthenticatedError
from identity_service.domain.dpop import DpopProof
from identity_service.domain.errors import PermissionDeniedError, TooManyAttemptsError
from identity_service.domain.grants import (
    Entitlement,
    GrantRequest,
    check_names,
    client_entitlement,
    decide_grant,
    require_grant,
    user_entitlement,
)
from identity_service.domain.ids import PrincipalId, new_session_id
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.ports import AuditTrail, ReplicaView
from identity_service.domain.principals import Grant
from identity_service.domain.sessions import Session
from identity_service.domain.store import SessionStore
from identity_service.domain.tokens import TokenEncryption
from identity_service.services.audit import record_refusal
from identity_service.services.authenticate import (
    Authenticator,
    ClientCredential,
    ClientSecret,
    Password,
    bind,
)
from identity_service.services.client_proofs import AuthenticatedClient
from identity_service.services.dpop import DpopProofs
from identity_service.services.exchange import Exchanger, ExchangeRequest
from identity_service.services.id_jags import IdJag, IdJags
from identity_service.services.keyring import KeyRing
from identity_service.services.repeated_issue import RepeatedIssue
from identity_service.services.token_maker import IssueConfig, Recipients, TokenMaker, TokenSet


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueRequest:
    """The credential of a principal, and the tokens that it asks for."""

    credential: ClientCredential | IdJag | Password
    grant: GrantRequest = field(default_factory=GrantRequest)
    claims: Mapping[str, object] = field(default_factory=dict)
    device: str = ""
    may_act: PrincipalId | None = None
    """The only principal that may exchange the token to act for its subject; None = any that is permitted."""
    exchange: ExchangeRequest | None = None
    encryption: TokenEncryption = TokenEncryption.NONE
    origin: Origin = NOWHERE
    digest: bytes | None = None
    """A collision-resistant digest of the whole request as it was received, under which `RepeatedIssue` may
    keep it; None = it is not kept."""


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """The use case Issue: issues tokens by credential, password, token exchange or ID-JAG."""

    authenticator: Authenticator
    maker: TokenMaker
    keys: KeyRing
    sessions: SessionStore
    replica: ReplicaView
    audit: AuditTrail
    exchanger: Exchanger
    id_jags: IdJags
    recipients: Recipients
    proofs: DpopProofs
    repeated: RepeatedIssue
    config: IssueConfig

    def issue(self, request: IssueRequest) -> TokenSet:
        """Exchange a credential for tokens; they are bound to the key of the request's DPoP proof, if any.

        Raises:
            InvalidRequestError: an audience or scope is malformed, or the lifetime is out of bounds.
            DpopProofRefusedError, DpopNonceRequiredError: the DPoP proof is not accepted.
            CredentialRefusedError: the credential does not prove a principal.
            BindingRequiredError: the client's tokens must be bound, and the request has neither a certificate
                nor a DPoP proof.
            PermissionDeniedError: the request asks for more than the principal is allowed.
            TooManyAttemptsError: earlier attempts failed, and the pause after them is not over.
            EncryptionNotPossibleError: the audience has no encryption key.
            UnavailableError: this process's data is stale, or it has no signing key.
        """
        self.replica.require_fresh()
        check_names(request.grant, self.config.known_scopes)
        try:
            return self._issue(request)
        except DpopNonceRequiredError:
            raise  # a step of the protocol, not a refusal
        except (UnauthenticatedError, PermissionDeniedError, TooManyAttemptsError) as error:
            record_refusal(self.audit, AuditType.ISSUE_REFUSED, error, request.origin)
            raise

    def _issue(self, request: IssueRequest) -> TokenSet:
        presented = request.origin.proof
        proof = self.proofs.check(presented) if presented is not None else None
        match request.credential:
            case Password() as credential:
                return self._for_user(request, credential, proof)
            case IdJag() as id_jag:
                return self._for_user_of_issuer(request, id_jag, proof)
            case credential if request.exchange is not None:
                return self.exchanger.exchange(
                    request.exchange,
                    credential,
                    request.grant,
                    request.origin,
                    proof,
                    claims=request.claims,
                    may_act=request.may_act,
                    encryption=request.encryption,
                )
            case credential:
                proven = self.authenticator.client(credential, request.origin)
                entitlement = client_entitlement(proven.client)
                return self._without_session(request, credential, proven, entitlement, proof)

    def _for_user_of_issuer(self, request: IssueRequest, id_jag: IdJag, proof: DpopProof | None) -> TokenSet:
        """Issue a token for the subject of an ID-JAG; it has no refresh token, as the draft advises."""
        checked = self.id_jags.check(id_jag, request.origin)
        entitlement = checked.limits.narrow(client_entitlement(checked.proven.client))
        return self._without_session(
            request,
            id_jag.credential,
            checked.proven,
            entitlement,
            proof,
            use_up=lambda: self.id_jags.use_up(checked),
        )

    def _without_session(
        self,
        request: IssueRequest,
        credential: ClientCredential,
        proven: AuthenticatedClient,
        entitlement: Entitlement,
        proof: DpopProof | None,
        *,
        use_up: Callable[[], None] | None = None,
    ) -> TokenSet:
        """Issue an access token alone.

        `use_up` is called once everything else is decided, so that a request that is refused for what it asks
        can be corrected and sent again.
        """
        key_sha256 = self.proofs.bind(proof) if proof is not None else None
        require_grant(proven.client, Grant.CLIENT_CREDENTIALS)
        granted = decide_grant(entitlement, request.grant, self.config.lifetimes)
        bound = bind(proven.client, credential, request.origin.certificate, key_sha256)
        recipient = self.recipients.find(request.encryption, granted.audiences)
        if use_up is not None:
            use_up()
        token = self.maker.for_client(
            proven,
            granted,
            certificate_sha256=bound,
            key_sha256=key_sha256,
            claims=request.claims,
            may_act=request.may_act,
        )
        tokens = self.maker.sign(token, recipient)
        if (
            request.digest is not None
            and isinstance(request.credential, ClientSecret)
            and recipient is None
            and bound is None
            and key_sha256 is None
        ):
            self.repeated.keep(request.digest, proven.client, request.credential.secret, token)
        self.audit.record(
            AuditEvent(
                type=AuditType.TOKEN_ISSUED,
                actor=proven.subject,
                target=proven.subject,
                peer=request.origin.peer,
                request_id=request.origin.request_id,
                details={"client_id": proven.client.client_id, "token_id": tokens.token_id},
            )
        )
        return tokens

    def _for_user(self, request: IssueRequest, credential: Password, proof: DpopProof | None) -> TokenSet:
        proven = self.authenticator.user(credential, request.origin)
        key_sha256 = self.proofs.bind(proof) if proof is not None else None
        granted = decide_grant(
            user_entitlement(proven.client, proven.user), request.grant, self.config.lifetimes
        )
        recipient = self.recipients.find(request.encryption, granted.audiences)
        session = Session(
            session_id=new_session_id(),
            subject=proven.user.user_id,
            client_id=proven.client.client_id,
            audiences=granted.audiences,
            scopes=granted.scopes,
            lifetime=granted.lifetime,
            claims=request.claims,
            generations=proven.generations,
            auth_time=proven.auth_time,
            expire_time=proven.auth_time + self.config.session_lifetime,
            device=request.device,
            peer=request.origin.peer,
            may_act=request.may_act,
            certificate_sha256=bind(proven.client, credential, request.origin.certificate, key_sha256),
            # A client with a credential proves by it that the refresh token is its own (RFC 9449 section 5).
            key_sha256=key_sha256 if proven.client.is_public else None,
            encryption=request.encryption,
            key_id=self.keys.current_refresh_key(),
        )
        tokens = self.maker.for_session(
            session,
            audiences=granted.audiences,
            scopes=granted.scopes,
            certificate_sha256=session.certificate_sha256,
            key_sha256=key_sha256,
            recipient=recipient,
        )
        event = AuditEvent(
            type=AuditType.SESSION_STARTED,
            actor=session.subject,
            target=session.session_id,
            peer=session.peer,
            request_id=request.origin.request_id,
            details={"client_id": session.client_id, "token_id": tokens.token_id},
        )
        self.sessions.create(session, audit=event)
        self.audit.stored(event)
        if Grant.REFRESH_TOKEN not in proven.client.grants:
            tokens = replace(tokens, refresh_token=None, refresh_expire_time=None)
        return tokens
