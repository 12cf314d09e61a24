"""The use case Revoke: revokes a token, a session, or everything that was issued to a principal.

When a call returns, the revocation is durable and enforced by this process; every other replica learns it
from the change log. Idempotent (RFC 7009).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.change_log import ReadableLog
from identity_service.domain.credential_errors import RefreshTokenInvalidError
from identity_service.domain.errors import StoreUnavailableError, TokenNotOpenableError
from identity_service.domain.ids import KeyId, PrincipalId, SessionId, TokenId, new_link
from identity_service.domain.log import (
    Appended,
    Fact,
    GenerationRaised,
    Marks,
    Revision,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.ports import AuditTrail, Clock, ReplicaView, TokenCodec
from identity_service.domain.revocations import whole_minute
from identity_service.domain.secret import REFRESH_TOKEN_PREFIX, RefreshToken, Secret, read_refresh_token
from identity_service.domain.store import FactStore
from identity_service.domain.tokens import AccessToken, Rejected, RejectionReason
from identity_service.services.keyring import KeyRing

_LONG_EXPIRED: Final = timedelta(hours=36)
"""The time after its expiry from which a token needs no denial: no clock is assumed to be ahead by more."""
_BETWEEN_HEARTBEATS: Final = timedelta(minutes=1)
"""A duration longer than that for which a process may issue tokens after a heartbeat (`max_staleness`)."""
_PERHAPS_NEW_KEY: Final = (RejectionReason.UNKNOWN_KEY, RejectionReason.UNDECRYPTABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByToken:
    """The target of a revocation: an access token with this text, or the session of a refresh token."""

    token: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ByTokenId:
    """The target of a revocation: the access token with this `jti`."""

    token_id: TokenId


@dataclass(frozen=True, slots=True, kw_only=True)
class BySession:
    """The target of a revocation: this session, and all tokens that were issued for it."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class ByPrincipal:
    """The target of a revocation: everything issued to a user or client, or by the service (`EVERYONE`)."""

    principal: PrincipalId


Target = ByToken | ByTokenId | BySession | ByPrincipal


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeRequest:
    """A revocation that a caller asks for."""

    target: Target
    reason: str = ""
    """The reason that the audit event states."""
    request_id: str | None = None
    """An id of the request: calls with the same one raise the generation of a principal once only; None =
    each call raises it."""
    origin: Origin = NOWHERE


@contextmanager
def resent_until_confirmed(replica: ReplicaView, fact: Fact) -> Iterator[None]:
    """Guard a write of `fact`: if the store does not confirm it, the replica enforces and resends it.

    The StoreUnavailableError of the write is raised again.
    """
    try:
        yield
    except StoreUnavailableError:
        replica.add_unconfirmed(fact)
        raise


@dataclass(frozen=True, slots=True)
class Revoker:
    """The use case Revoke: revokes tokens, sessions and principals, durably and at once in the replica."""

    facts: FactStore
    log: ReadableLog
    replica: ReplicaView
    codec: TokenCodec
    keys: KeyRing
    clock: Clock
    audit: AuditTrail
    configured: Marks
    """The longest durations of this process's settings."""

    def revoke(self, request: RevokeRequest) -> Revision:
        """Revoke durably, and return the revision of the log that holds the revocation.

        If there is nothing to revoke, the current revision is returned.

        Raises:
            TokenNotOpenableError: the token is encrypted, and this service has no key to decrypt it.
            UnavailableError: this process's data is stale, or the store did not confirm the write.
        """
        self.replica.require_fresh()
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
        """End a session durably, and return the revision of the log that says so.

        Its access tokens are denied until the last of them has expired, and its refresh tokens are refused
        until the session would have expired. Raises StoreUnavailableError: the write is then unconfirmed.
        """
        with resent_until_confirmed(self.replica, self._session_ended(session_id, self._marks())):
            fact = self._session_ended(session_id, self._marks_in_store())
            appended = self.facts.end_session(
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
        """Return the longest lifetimes of this process's settings and of all that its replica knows of."""
        return self.configured.merged(self.replica.marks)

    def _marks_in_store(self) -> Marks:
        """Return `_marks` merged with those of the store, since a process with longer settings may be new."""
        return self._marks().merged(self.log.head().marks)

    def _now(self, marks: Marks) -> datetime:
        """Return the latest time that it may be now, so that a clock set back cannot shorten a revocation.

        A clock that was ahead for a moment, here or in another process, may have issued a token that
        expires later than the clock of now suggests.
        """
        now = self.replica.latest_time
        if marks.latest is not None and marks.latest > now + marks.leeway:
            now = marks.latest + _BETWEEN_HEARTBEATS + marks.leeway
        return now if marks.time is None else max(now, marks.time)

    def _end_of_any_token(self, marks: Marks) -> datetime:
        """Return the time by which every token issued until now has expired, for a token known by id only."""
        return self._now(marks) + marks.lifetime + marks.leeway

    def _token(self, text: str, request: RevokeRequest) -> Revision:
        """Revoke the token with this text. One that does not verify is ignored, not an error (RFC 7009)."""
        if text.startswith(REFRESH_TOKEN_PREFIX):
            refresh_token = self.read_refresh_token(text)
            if refresh_token is None:
                return self.replica.revision
            session_id = refresh_token.session_id
            return self.end_session(session_id, _event(AuditType.SESSION_REVOKED, session_id, request))
        token = self.read_access_token(text)
        if token is None:
            return self.replica.revision
        if token.expire_time + _LONG_EXPIRED < self.clock.now():
            return self.replica.revision
        return self._deny(token.token_id, lambda marks: token.expire_time + marks.leeway, request)

    def read_refresh_token(self, text: str) -> RefreshToken | None:
        """Return the refresh token with this text, or None if this service did not issue it.

        Reads the log to its end if the key is unknown. Raises UnavailableError.
        """
        unknown: list[KeyId] = []

        def find_key(key_id: KeyId) -> bytes | None:
            key = self.keys.refresh_key(key_id)
            if key is None:
                unknown.append(key_id)
            return key

        try:
            return read_refresh_token(text, find_key)
        except RefreshTokenInvalidError:
            if not unknown:
                return None
        # Another process may have created the key a moment ago.
        self.replica.reach(None)
        try:
            return read_refresh_token(text, find_key)
        except RefreshTokenInvalidError:
            return None

    def read_access_token(self, text: str) -> AccessToken | None:
        """Return the access token with this text, which may have expired, or None if it does not verify.

        Reads the log to its end if the key is unknown. Raises TokenNotOpenableError, UnavailableError.
        """
        found = self.codec.read(text)
        if isinstance(found, Rejected) and found.reason in _PERHAPS_NEW_KEY:
            self.replica.reach(None)
            found = self.codec.read(text)
        if isinstance(found, AccessToken):
            return found
        if found.reason is RejectionReason.UNDECRYPTABLE:
            raise TokenNotOpenableError.of("token", "is encrypted; revoke it by its token_id")
        return None

    def _deny(self, token_id: TokenId, end: Callable[[Marks], datetime], request: RevokeRequest) -> Revision:
        """Deny a token id until `end`, which is computed from the longest settings ever used."""
        event = _event(AuditType.TOKEN_REVOKED, token_id, request)
        until = whole_minute(end(self._marks()))
        with resent_until_confirmed(self.replica, TokenDenied(token_id=token_id, deny_until=until)):
            until = whole_minute(end(self._marks_in_store()))
            appended = self.facts.deny_token(token_id, until, audit=event)
        return self._learned(appended, event)

    def _raise(self, principal: PrincipalId, request: RevokeRequest) -> Revision:
        event = _event(AuditType.PRINCIPAL_REVOKED, principal, request)
        known = self.replica.revocations.generations.get(principal)
        above, link = known.number if known is not None else 0, new_link()
        with resent_until_confirmed(
            self.replica, GenerationRaised(principal=principal, number=above + 1, origin=link)
        ):
            appended = self.facts.raise_generation(
                principal, above=above, request_id=request.request_id, link=link, audit=event
            )
        return self._learned(appended, event)

    def _learned(self, appended: Appended, event: AuditEvent) -> Revision:
        """Apply the entry to this process's replica, log the audit event, and return the new revision."""
        self.replica.learn(appended)
        self.audit.stored(event)
        return appended.revision


def _event(type_: AuditType, target: str, request: RevokeRequest) -> AuditEvent:
    return AuditEvent.of(type_, request.origin, target=target, reason=request.reason)
