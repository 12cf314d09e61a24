"""The use case Refresh: exchanges a refresh token for an access token and the next refresh token.

A call reads the session, lets `domain/sessions.py` decide, and stores the rotation by compare-and-set; if
another call was faster, it begins again. Of any number of concurrent calls with one refresh token, exactly
one rotates the session, and all of them get the same successor.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, assert_never

from identity_service.domain import refresh_tokens
from identity_service.domain.audit import AuditEvent, AuditOutcome, AuditType
from identity_service.domain.dpop import DpopProof
from identity_service.domain.errors import (
    CredentialRefusedError,
    DpopNonceRequiredError,
    DpopProofRefusedError,
    PermissionDeniedError,
    RefreshTokenReusedError,
    RefreshTokenSupersededError,
    ServerBusyError,
    SessionEndedError,
    TooManyAttemptsError,
    UnauthenticatedError,
    WrongClientError,
)
from identity_service.domain.grants import GrantRequest, check_names, narrow, require_grant
from identity_service.domain.ids import PrincipalId
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.ports import AuditTrail, ReplicaView
from identity_service.domain.principals import Client, Grant, OnReuse
from identity_service.domain.refresh_tokens import RefreshToken
from identity_service.domain.secret import Secret
from identity_service.domain.sessions import (
    Replayed,
    Reused,
    Rotated,
    Session,
    SessionState,
    Superseded,
    TooFrequent,
    decide_refresh,
)
from identity_service.domain.store import SessionStore
from identity_service.services.audit import record_refusal
from identity_service.services.authenticate import Authenticator, ClientCredential, rebind
from identity_service.services.dpop import DpopProofs
from identity_service.services.keyring import KeyRing
from identity_service.services.live_sessions import require_live, still_granted
from identity_service.services.revoke import Revoker
from identity_service.services.token_maker import Recipients, TokenMaker, TokenSet

_TRIES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRequest:
    """A refresh token, and the audiences and scopes of its session that the new access token shall have."""

    refresh_token: Secret
    client: ClientCredential | None = None
    """The client's credential; only a public client may leave it out."""
    client_id: PrincipalId | None = None
    """The client that a request without a credential names; None = the session's."""
    scopes: Sequence[str] = field(default_factory=tuple)
    """The scopes; empty = all scopes of the session."""
    audiences: Sequence[str] = field(default_factory=tuple)
    """The audiences; empty = all audiences of the session."""
    origin: Origin = NOWHERE


class Refresher:
    """The use case Refresh: exchanges refresh tokens, and ends a session if an old one is used again."""

    def __init__(
        self,
        sessions: SessionStore,
        replica: ReplicaView,
        authenticator: Authenticator,
        keys: KeyRing,
        maker: TokenMaker,
        recipients: Recipients,
        revoker: Revoker,
        proofs: DpopProofs,
        audit: AuditTrail,
        *,
        grace: timedelta,
        known_scopes: frozenset[str] = frozenset(),
    ) -> None:
        """Refresh sessions of this store.

        `grace` is the time for which a used refresh token still returns its successor. `known_scopes` are the
        scopes that a request may name; empty = all that are well-formed.
        """
        self._sessions = sessions
        self._replica = replica
        self._authenticator = authenticator
        self._keys = keys
        self._maker = maker
        self._recipients = recipients
        self._revoker = revoker
        self._proofs = proofs
        self._audit = audit
        self._grace = grace
        self._known_scopes = known_scopes

    def refresh(self, request: RefreshRequest) -> TokenSet:
        """Exchange a refresh token. A call that is repeated within `grace` returns the same next token.

        Raises:
            RefreshTokenInvalidError, RefreshTokenSupersededError, RefreshTokenReusedError,
            SessionEndedError, CredentialRefusedError, BindingRequiredError, DpopProofRefusedError,
            DpopNonceRequiredError: the token, the client's credential, the connection's certificate or the
                DPoP proof is refused.
            EncryptionNotPossibleError: the audience has no encryption key any more.
            PermissionDeniedError: the request asks for more than the session has.
            TooManyAttemptsError: the session is refreshed too often.
            ServerBusyError: other calls refreshed the session at the same time in each of 16 tries.
            UnavailableError: this process's data is stale, or the store cannot be reached.
        """
        self._replica.require_fresh()
        check_names(GrantRequest(audiences=request.audiences, scopes=request.scopes), self._known_scopes)
        try:
            return self._refresh(request)
        except RefreshTokenReusedError:
            raise  # it has an audit event of its own
        except DpopNonceRequiredError:
            raise  # a step of the protocol, not a refusal
        except (UnauthenticatedError, PermissionDeniedError, TooManyAttemptsError) as error:
            record_refusal(self._audit, AuditType.REFRESH_REFUSED, error, request.origin)
            raise

    def _refresh(self, request: RefreshRequest) -> TokenSet:
        presented = request.origin.proof
        proof = self._proofs.check(presented) if presented is not None else None
        token = refresh_tokens.read(request.refresh_token.reveal(), self._keys.refresh_key)
        proven: PrincipalId | None = None
        for _ in range(_TRIES):
            state = self._sessions.read(token.session_id)
            if state is None:
                raise SessionEndedError
            client, user = require_live(state, self._replica.revocations)
            if proven is None:  # only once: an assertion (RFC 7523) and a DPoP proof are single-use
                proven = self._authenticate(client, request)
                _require_key(state.session, proof)
                key_sha256 = self._proofs.bind(proof)
            bound = rebind(state.session, client, request.client, request.origin.certificate, key_sha256)
            decision = self._decide(state, token)
            if isinstance(decision, Reused):
                self._on_reuse(state.session, client, request.origin)
                raise RefreshTokenReusedError
            # Checked before the session is rotated: a request that is refused must not change it.
            granted = still_granted(state.session, client, user)
            audiences = narrow("audiences", granted[0], request.audiences)
            scopes = narrow("scopes", granted[1], request.scopes)
            recipient = self._recipients.find(state.session.encryption, audiences)
            if self._settle(decision, state.version, request.origin):
                session = replace(decision.session, certificate_sha256=bound)
                return self._maker.for_session(
                    session, audiences=audiences, scopes=scopes, key_sha256=key_sha256, recipient=recipient
                )
        raise ServerBusyError("too many calls refresh this session at once; try again")

    def _decide(self, state: SessionState, token: RefreshToken) -> Rotated | Replayed | Reused:
        """Decide whether the token rotates, repeats or reuses; raise the error of any other outcome."""
        decision = decide_refresh(
            state.session,
            token.number,
            now=state.time,
            grace=self._grace,
            key_id=self._keys.current_refresh_key(),
        )
        match decision:
            case Rotated() | Replayed() | Reused():
                return decision
            case Superseded():
                raise RefreshTokenSupersededError
            case TooFrequent():
                raise TooManyAttemptsError("this session is refreshed too often; wait and try again")
            case _:
                assert_never(decision)

    def _settle(self, decision: Rotated | Replayed, version: int, origin: Origin) -> bool:
        """Store a rotation, or nothing for a repeated call; return False if another call was faster."""
        if isinstance(decision, Replayed):
            return True
        session = decision.session
        if not self._sessions.replace(session, expected_version=version):
            return False
        self._audit.record(
            AuditEvent.of(
                AuditType.SESSION_REFRESHED,
                origin,
                actor=session.subject,
                target=session.session_id,
                client_id=session.client_id,
                number=session.latest,
            )
        )
        return True

    def _authenticate(self, client: Client, request: RefreshRequest) -> PrincipalId:
        """Require that the session's client is authenticated, unless it is public and sent no credential."""
        require_grant(client, Grant.REFRESH_TOKEN)
        presenter = request.client_id or client.client_id
        if request.client is not None:
            presenter = self._authenticator.client(request.client, request.origin).client.client_id
        elif not client.is_public:
            raise CredentialRefusedError("the client must prove itself", client.client_id)
        if presenter != client.client_id:
            raise WrongClientError("the session is of another client", client.client_id)
        return client.client_id

    def _on_reuse(self, session: Session, client: Client, origin: Origin) -> None:
        """End a session whose old refresh token was used again, since two parties hold its tokens.

        A session of a confidential client that is configured with `OnReuse.REFUSE` is kept.
        """
        spare = not client.is_public and client.on_reuse is OnReuse.REFUSE
        event = AuditEvent.of(
            AuditType.REFRESH_TOKEN_REUSED,
            origin,
            target=session.session_id,
            outcome=AuditOutcome.REFUSED,
            subject=session.subject,
            client_id=session.client_id,
            session_ended=not spare,
        )
        if spare:
            self._audit.record(event)
        else:
            self._revoker.end_session(session.session_id, event)


def _require_key(session: Session, proof: DpopProof | None) -> None:
    """Raise DpopProofRefusedError unless the proof is by the key of the session, if it has one."""
    bound = session.key_sha256
    if bound is None or (proof is not None and hmac.compare_digest(proof.key_sha256, bound)):
        return
    raise DpopProofRefusedError("a refresh of this session needs one by the key of its sign-in")
