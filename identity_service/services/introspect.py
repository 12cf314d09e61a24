"""The use case Introspect: returns the facts of a token that is valid now (RFC 7662). Changes nothing."""

from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any

from identity_service.domain.credential_errors import RefreshTokenInvalidError, SessionEndedError
from identity_service.domain.ports import ReplicaView
from identity_service.domain.principals import Grant
from identity_service.domain.secret import RefreshToken, Secret, read_refresh_token
from identity_service.domain.sessions import Reused, Session, Superseded, decide_refresh
from identity_service.domain.store import SessionStore
from identity_service.domain.tokens import AccessToken, Rejected
from identity_service.services.keyring import KeyRing
from identity_service.services.live_sessions import require_live, still_granted
from identity_service.services.verify import Verifier, VerifyRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRefreshToken:
    """A refresh token that Refresh would accept from its client."""

    session: Session
    scopes: tuple[str, ...]
    """The scopes that it may still grant."""


@dataclass(frozen=True, slots=True)
class Introspector:
    """The use case Introspect: looks tokens up without using them, so no refresh token is rotated."""

    verifier: Verifier[Any]
    sessions: SessionStore
    replica: ReplicaView
    keys: KeyRing
    _: KW_ONLY
    grace: timedelta
    """The grace of Refresh."""

    def access_token(self, token: Secret) -> AccessToken | None:
        """Return an access token that is valid for any audience, or None.

        A token that is bound to a certificate or a key is returned without it: the caller checks the binding.
        Raises UnavailableError.
        """
        request = VerifyRequest(token=token.reveal(), any_audience=True, any_holder=True)
        answer = self.verifier.verify(request)
        return None if isinstance(answer, Rejected) else answer.token

    def refresh_token(self, token: Secret) -> LiveRefreshToken | None:
        """Return a refresh token of a live session, or None.

        It is the latest of its session, or an older one that Refresh still accepts. Raises UnavailableError.
        """
        self.replica.require_fresh()
        try:
            return self._refresh_token(read_refresh_token(token.reveal(), self.keys.refresh_key))
        except (RefreshTokenInvalidError, SessionEndedError):
            return None

    def _refresh_token(self, token: RefreshToken) -> LiveRefreshToken | None:
        state = self.sessions.read(token.session_id)
        if state is None:
            return None
        client, user = require_live(state, self.replica.revocations)
        _, scopes = still_granted(state.session, client, user)
        decision = decide_refresh(
            state.session, token.number, now=state.time, grace=self.grace, key_id=token.key_id
        )
        if Grant.REFRESH_TOKEN not in client.grants or isinstance(decision, Superseded | Reused):
            return None
        return LiveRefreshToken(session=state.session, scopes=scopes)
