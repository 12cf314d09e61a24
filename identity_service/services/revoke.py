"""Revoke: takes back a token, a session, or everything of a principal.

OK means durable and known here; every other replica learns it from the log. Idempotent (RFC 7009).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain import refresh_tokens
from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import (
    RefreshTokenInvalidError,
    TokenNotOpenableError,
)
from identity_service.domain.ids import KeyId, PrincipalId, SessionId, TokenId, new_link
from identity_service.domain.log import (
    Appended,
    GenerationRaised,
    Marks,
    Revision,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.ports import AuditTrail, Clock, ReplicaView, TokenCodec
from identity_service.domain.refresh_tokens import RefreshToken
from identity_service.domain.revocations import whole_minute
from identity_service.domain.secret import Secret
from identity_service.domain.store import Store
from identity_service.domain.tokens import AccessToken, Rejected, RejectionReason
from identity_service.services.keyring import KeyRing
from identity_service.services.unconfirmed import resent_until_confirmed

_LONG_EXPIRED: Final = timedelta(hours=36)
"""A token that expired so long ago stays expired, whatever may be wrong with this process's clock."""
_BETWEEN_HEARTBEATS: Final = timedelta(minutes=1)
"""How long after a heartbeat a process may issue tokens, and more: `max_staleness` is seconds."""
_PERHAPS_NEW_KEY: Final = (RejectionReason.UNKNOWN_KEY, RejectionReason.UNDECRYPTABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByToken:
    """The access or refresh token itself."""

    token: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ByTokenId:
    token_id: TokenId


@dataclass(frozen=True, slots=True, kw_only=True)
class BySession:
    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class ByPrincipal:
    """Everything of a subject, of a client, or with `EVERYONE` of the whole service."""

    principal: PrincipalId


Target = ByToken | ByTokenId | BySession | ByPrincipal


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeRequest:
    """What to take back, and why."""

    target: Target
    reason: str = ""
    request_id: str | None = None
    """Generations are raised once for all calls with the same one."""
    origin: Origin = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeConfig:
    """How long a denial must last to outlive what it denies."""

    longest_lifetime: timedelta = timedelta(hours=24)
    session_lifetime: timedelta = timedelta(days=30)
    leeway: timedelta = timedelta(seconds=10)


class Revoker:
    """The use case Revoke."""

    def __init__(
        self,
        store: Store,
        replica: ReplicaView,
        codec: TokenCodec,
        keys: KeyRing,
        clock: Clock,
        audit: AuditTrail,
        config: RevokeConfig,
    ) -> None:
        self._store = store
        self._replica = replica
        self._codec = codec
        self._keys = keys
        self._clock = clock
        self._audit = audit
        self._config = config

    def revoke(self, request: RevokeRequest) -> Revision:
        """Revoke, durably, and return the place in the log that holds it.

        Raises:
            TokenNotOpenableError: the token is encrypted to somebody else.
            UnavailableError: this process is stale, or the store did not confirm.
        """
        self._replica.require_fresh()
        match request.target:
            case ByToken(token=token):
                return self._token(token.reveal(), request)
            case ByTokenId(token_id=token_id):
                return self._deny(token_id, self._end_of_any_token, request)
            case BySession(session_id=session_id):
                return self.end_session(session_id, _event(AuditType.SESSION_REVOKED, session_id, request))
            case ByPrincipal(principal=principal):
                return self._raise(principal, request)

    def end_session(self, session_id: SessionId, event: AuditEvent) -> Revision:
        """End one sign-in: its access tokens now, its refresh tokens until its last day."""
        with resent_until_confirmed(self._replica, self._session_ended(session_id, self._marks())):
            fact = self._session_ended(session_id, self._marks_in_store())
            appended = self._store.end_session(
                session_id, deny_until=fact.deny_until, end_until=fact.end_until, audit=event
            )
        return self._learned(appended, event)

    def _session_ended(self, session_id: SessionId, marks: Marks) -> SessionEnded:
        now = self._now(marks)
        return SessionEnded(
            session_id=session_id,
            deny_until=whole_minute(now + marks.lifetime + marks.leeway),
            end_until=now + marks.session + marks.leeway,
        )

    def _marks(self) -> Marks:
        """The longest of what is configured here and what was ever configured, as this process knows it."""
        config = self._config
        configured = Marks(
            lifetime=config.longest_lifetime, session=config.session_lifetime, leeway=config.leeway
        )
        return configured.merged(self._replica.marks)

    def _marks_in_store(self) -> Marks:
        """The same with what the store knows now: a process with longer settings may have just begun."""
        return self._marks().merged(self._store.head().marks)

    def _now(self, marks: Marks) -> datetime:
        """The latest that it may be: a clock that was set back must not shorten a revocation.

        A token may have been issued, here or by another process, by a clock that was ahead for a moment.
        """
        now = self._replica.latest_time
        if marks.latest is not None and marks.latest > now + marks.leeway:
            now = marks.latest + _BETWEEN_HEARTBEATS + marks.leeway
        return now if marks.time is None else max(now, marks.time)

    def _end_of_any_token(self, marks: Marks) -> datetime:
        """By when a token has surely expired of which nothing but its id is known."""
        return self._now(marks) + marks.lifetime + marks.leeway

    def _token(self, text: str, request: RevokeRequest) -> Revision:
        """By the token itself. What does not verify has no effect and is no error (RFC 7009)."""
        if text.startswith(refresh_tokens.PREFIX):
            refresh_token = self._read_refresh_token(text)
            if refresh_token is None:
                return self._replica.revision
            session_id = refresh_token.session_id
            return self.end_session(session_id, _event(AuditType.SESSION_REVOKED, session_id, request))
        token = self._read_access_token(text)
        if token is None:
            return self._replica.revision
        if token.expire_time + _LONG_EXPIRED < self._clock.now():
            return self._replica.revision
        return self._deny(token.token_id, lambda marks: token.expire_time + marks.leeway, request)

    def _read_refresh_token(self, text: str) -> RefreshToken | None:
        unknown: list[KeyId] = []

        def find_key(key_id: KeyId) -> bytes | None:
            key = self._keys.refresh_key(key_id)
            if key is None:
                unknown.append(key_id)
            return key

        try:
            return refresh_tokens.read(text, find_key)
        except RefreshTokenInvalidError:
            if not unknown:
                return None
        # Another process may have made the key a moment ago.
        self._replica.reach(None)
        try:
            return refresh_tokens.read(text, find_key)
        except RefreshTokenInvalidError:
            return None

    def _read_access_token(self, text: str) -> AccessToken | None:
        found = self._codec.read(text)
        if isinstance(found, Rejected) and found.reason in _PERHAPS_NEW_KEY:
            self._replica.reach(None)
            found = self._codec.read(text)
        if isinstance(found, AccessToken):
            return found
        if found.reason is RejectionReason.UNDECRYPTABLE:
            raise TokenNotOpenableError.of("token", "is encrypted; revoke it by its token_id")
        return None

    def _deny(self, token_id: TokenId, end: Callable[[Marks], datetime], request: RevokeRequest) -> Revision:
        """Deny a token id until the end that follows from the longest that was ever configured."""
        event = _event(AuditType.TOKEN_REVOKED, token_id, request)
        until = whole_minute(end(self._marks()))
        with resent_until_confirmed(self._replica, TokenDenied(token_id=token_id, deny_until=until)):
            until = whole_minute(end(self._marks_in_store()))
            appended = self._store.deny_token(token_id, until, audit=event)
        return self._learned(appended, event)

    def _raise(self, principal: PrincipalId, request: RevokeRequest) -> Revision:
        event = _event(AuditType.PRINCIPAL_REVOKED, principal, request)
        known = self._replica.revocations.generations.get(principal)
        above, link = known.number if known is not None else 0, new_link()
        with resent_until_confirmed(
            self._replica, GenerationRaised(principal=principal, number=above + 1, origin=link)
        ):
            appended = self._store.raise_generation(
                principal, above=above, request_id=request.request_id, link=link, audit=event
            )
        return self._learned(appended, event)

    def _learned(self, appended: Appended, event: AuditEvent) -> Revision:
        """Deny here before answering; the others learn it from the log."""
        self._replica.learn(appended)
        self._audit.stored(event)
        return appended.revision


def _event(type_: AuditType, target: str, request: RevokeRequest) -> AuditEvent:
    return AuditEvent.of(type_, request.origin, target=target, reason=request.reason)
