"""The use case Refresh: exchanges a refresh token for an access token and the next refresh token.

A call reads the session, lets `domain/sessions.py` decide, and stores the rotation by compare-and-set; if
another call was faster, it begins again. A store may make the most frequent kind of rotation as it reads
(`PlainRotation`), which saves a round trip; the call then decides all the same, and returns no token unless
it decides to rotate. Of any number of concurrent calls with one refresh token, exactly one rotates the
session, and all of them get the same successor.
"""

import hmac
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from typing import Final, assert_never

from identity_service.domain.audit import AuditEvent, AuditOutcome, AuditType
from identity_service.domain.credential_errors import (
    CredentialRefusedError,
    DpopNonceRequiredError,
    DpopProofRefusedError,
    RefreshTokenReusedError,
    RefreshTokenSupersededError,
    SessionEndedError,
    UnauthenticatedError,
    WrongClientError,
)
from identity_service.domain.dpop import DpopProof
from identity_service.domain.errors import PermissionDeniedError, ServerBusyError, TooManyAttemptsError
from identity_service.domain.grants import GrantRequest, check_names, narrow, require_grant
from identity_service.domain.ids import FIRST_PARTY_CLIENT, KeyId, PrincipalId
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.ports import AuditTrail, ReplicaView
from identity_service.domain.principals import Client, Grant, OnReuse
from identity_service.domain.secret import RefreshToken, Secret, read_refresh_token
from identity_service.domain.sessions import (
    PlainRotation,
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
from identity_service.services.directory import Directory
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


@dataclass(frozen=True, slots=True)
class Refresher:
    """The use case Refresh: exchanges refresh tokens, and ends a session if an old one is used again."""

    sessions: SessionStore
    replica: ReplicaView
    authenticator: Authenticator
    directory: Directory
    keys: KeyRing
    maker: TokenMaker
    recipients: Recipients
    revoker: Revoker
    proofs: DpopProofs
    audit: AuditTrail
    _: KW_ONLY
    grace: timedelta
    """The time for which a used refresh token still returns its successor."""
    known_scopes: frozenset[str] = frozenset()
    """The scopes that a request may name; empty = all that are well-formed."""

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
        self.replica.require_fresh()
        if request.audiences or request.scopes:
            check_names(GrantRequest(audiences=request.audiences, scopes=request.scopes), self.known_scopes)
        try:
            return self._refresh(request)
        except (RefreshTokenReusedError, DpopNonceRequiredError):
            raise  # the first has an audit event of its own; the second is a step of the protocol
        except (UnauthenticatedError, PermissionDeniedError, TooManyAttemptsError) as error:
            record_refusal(self.audit, AuditType.REFRESH_REFUSED, error, request.origin)
            raise

    def _refresh(self, request: RefreshRequest) -> TokenSet:
        presented = request.origin.proof
        proof = self.proofs.check(presented) if presented is not None else None
        token = read_refresh_token(request.refresh_token.reveal(), self.keys.refresh_key)
        proven: Client | None = None
        if request.client is not None:
            proven = self.authenticator.client(request.client, request.origin).client
        key_id = self.keys.current_refresh_key()
        rotation = self._plain_rotation(token, request, proven, key_id)
        key_sha256, is_bound = None, False
        for _ in range(_TRIES):
            state = self.sessions.read(token.session_id, rotation=rotation)
            if state is None:
                raise SessionEndedError
            client, user = require_live(state, self.replica.revocations)
            _require_client(client, proven, request.client_id)
            if not is_bound:  # only once: a DPoP proof is single-use
                _require_key(state.session, proof)
                is_bound = True
                key_sha256 = self.proofs.bind(proof) if proof is not None else None
            bound = rebind(state.session, client, request.client, request.origin.certificate, key_sha256)
            decision = self._decide(state, token, key_id)
            if isinstance(decision, Reused):
                self._on_reuse(state.session, client, request.origin)
                raise RefreshTokenReusedError
            # Checked before the session is rotated: a request that is refused must not change it. If the
            # store has rotated it, only a change of a record that revokes nothing can refuse the request
            # here. Then the client still has the parent of a number that was never given out.
            granted = still_granted(state.session, client, user)
            audiences = narrow("audiences", granted[0], request.audiences)
            scopes = narrow("scopes", granted[1], request.scopes)
            recipient = self.recipients.find(state.session.encryption, audiences)
            if self._settle(decision, state, request.origin):
                return self.maker.for_session(
                    decision.session,
                    audiences=audiences,
                    scopes=scopes,
                    certificate_sha256=bound,
                    key_sha256=key_sha256,
                    recipient=recipient,
                )
        raise ServerBusyError("too many calls refresh this session at once; try again")

    def _plain_rotation(
        self, token: RefreshToken, request: RefreshRequest, proven: Client | None, key_id: KeyId
    ) -> PlainRotation | None:
        """Return the rotation that the store may make as it reads the session; None = it must not.

        It may if nothing in the request, in the client's record or in the replica can refuse the call.
        """
        if request.scopes or request.audiences or request.origin.proof is not None:
            return None
        if token.session_id in self.replica.revocations.denylist:
            return None
        # Without a name, the client is a public one. If the guess is wrong, the store leaves the session be.
        client = proven or self.directory.client(request.client_id or FIRST_PARTY_CLIENT)
        if client is None or not (proven or client.is_public):
            return None
        if client.disabled or client.require_binding or Grant.REFRESH_TOKEN not in client.grants:
            return None
        return PlainRotation(shown=token.number, client_id=client.client_id, key_id=key_id, grace=self.grace)

    def _decide(self, state: SessionState, token: RefreshToken, key_id: KeyId) -> Rotated | Replayed | Reused:
        """Decide whether the token rotates, repeats or reuses; raise the error of any other outcome."""
        decision = decide_refresh(
            state.session, token.number, now=state.time, grace=self.grace, key_id=key_id
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

    def _settle(self, decision: Rotated | Replayed, state: SessionState, origin: Origin) -> bool:
        """Store a rotation, or nothing for a repeated call; return False if another call was faster.

        Does not store the rotation that the store made itself.
        """
        if isinstance(decision, Replayed):
            return True
        session = decision.session
        if not (state.rotated or self.sessions.replace(session, expected_version=state.version)):
            return False
        self.audit.record(
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
            self.audit.record(event)
        else:
            self.revoker.end_session(session.session_id, event)


def _require_client(client: Client, proven: Client | None, named: PrincipalId | None) -> None:
    """Require that the session's client was authenticated, unless it is public and sent no credential.

    `proven` is the client that was authenticated, and `named` the one that the request names.
    """
    require_grant(client, Grant.REFRESH_TOKEN)
    presenter = proven.client_id if proven is not None else named or client.client_id
    if proven is None and not client.is_public:
        raise CredentialRefusedError("the client must prove itself", client.client_id)
    if presenter != client.client_id:
        raise WrongClientError("the session is of another client", client.client_id)


def _require_key(session: Session, proof: DpopProof | None) -> None:
    """Raise DpopProofRefusedError unless the proof is by the key of the session, if it has one."""
    bound = session.key_sha256
    if bound is None or (proof is not None and hmac.compare_digest(proof.key_sha256, bound)):
        return
    raise DpopProofRefusedError("a refresh of this session needs one by the key of its sign-in")
