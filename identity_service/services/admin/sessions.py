"""Lists and ends sessions. Every user may do so with their own sessions, administrators with all.

A session is live if it has neither ended nor expired, and no generation of its principals was raised since.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import CallerScopeMissingError, NotFoundError
from identity_service.domain.grants import SCOPE_ADMIN
from identity_service.domain.ids import USER_PREFIX, PrincipalId, SessionId
from identity_service.domain.log import Revision
from identity_service.domain.origin import Origin
from identity_service.domain.ports import Clock, ReplicaView
from identity_service.domain.revocations import first_raised
from identity_service.domain.sessions import Session
from identity_service.domain.store import SessionStore
from identity_service.domain.visible import shown
from identity_service.services.revoke import Revoker

_BATCH = 500
"""The number of sessions that are read from the store at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfSubject:
    """A selection: the sessions of a user."""

    subject: PrincipalId | None = None
    """The user; None = the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfClient:
    """A selection: the sessions of all users that signed in through a client."""

    client_id: PrincipalId


@dataclass(frozen=True, slots=True, kw_only=True)
class OneSession:
    """A selection: the session with this id."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class AllBut:
    """A selection: all sessions of a user, except one."""

    owner: OfSubject
    kept: SessionId | None = None
    """The session that is not ended; None = all are ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The result of ending sessions."""

    revision: Revision
    """The revision of the log that holds the last of the revocations."""
    count: int
    """The number of sessions that were ended."""


class Sessions:
    """The use cases that list and end the sessions of users."""

    def __init__(self, sessions: SessionStore, replica: ReplicaView, revoker: Revoker, clock: Clock) -> None:
        self._sessions = sessions
        self._replica = replica
        self._revoker = revoker
        self._clock = clock

    def list(
        self, owner: OfSubject | OfClient, origin: Origin, *, before: str = "", limit: int = 100
    ) -> tuple[Sequence[Session], bool]:
        """Return live sessions, the newest sign-in first, and whether more follow.

        The page begins after the session `before`. It may have fewer than `limit` sessions, but is empty
        only at the end.

        Raises CallerScopeMissingError if the sessions are not the caller's own and the caller is no
        administrator.
        """
        if isinstance(owner, OfClient):
            _require_admin(origin)
            principal = owner.client_id
        else:
            principal = _subject(owner, origin)
            if not _is_person(principal):
                return (), False
        page = self._live(principal, before, limit)
        return page, bool(page and self._live(principal, page[-1].session_id, 1))

    def revoke(self, target: OneSession | AllBut, origin: Origin, *, reason: str = "") -> Ended:
        """End the sessions durably.

        Raises:
            CallerScopeMissingError: the sessions of another user, and the caller is not an administrator.
            NotFoundError: there is no such session, or it is not the caller's own.
            UnavailableError: the store did not confirm one of the writes. The sessions before it are ended,
                and the call can be repeated.
        """
        if isinstance(target, OneSession):
            return self._end_one(target.session_id, origin, reason)
        subject = _subject(target.owner, origin)
        # All are looked up before the first one ends, so that no session moves to a page already read.
        found = [sid for sid in self._all(subject) if sid != target.kept] if _is_person(subject) else []
        revision = self._replica.revision
        for session_id in found:
            revision = self._end(session_id, subject, origin, reason)
        return Ended(revision=revision, count=len(found))

    def _end_one(self, session_id: SessionId, origin: Origin, reason: str) -> Ended:
        state = self._sessions.read(session_id)
        # A session of another user is answered like one that does not exist, so that ids cannot be probed.
        if state is None or not (origin.is_admin or state.session.subject == origin.actor):
            raise NotFoundError(f"{shown(session_id)}: there is no such session")
        revision = self._end(session_id, state.session.subject, origin, reason)
        return Ended(revision=revision, count=0 if state.ended else 1)

    def _end(self, session_id: SessionId, subject: PrincipalId, origin: Origin, reason: str) -> Revision:
        event = AuditEvent.of(
            AuditType.SESSION_REVOKED, origin, target=session_id, reason=reason, subject=subject
        )
        return self._revoker.end_session(session_id, event)

    def _all(self, subject: PrincipalId) -> Iterator[SessionId]:
        before = ""
        while page := self._live(subject, before, _BATCH):
            yield from (session.session_id for session in page)
            before = page[-1].session_id

    def _live(self, owner: PrincipalId, before: str, limit: int) -> Sequence[Session]:
        """Return at most `limit` live sessions, and at least one if any is left."""
        while batch := self._sessions.list_of(owner, before=before, limit=limit):
            if live := [session for session in batch if self._lives(session)]:
                return live
            before = batch[-1].session_id
        return ()

    def _lives(self, session: Session) -> bool:
        known = self._replica.revocations
        return (
            session.session_id not in known.denylist
            and session.expire_time > self._clock.now()
            and first_raised(known.generations, session.principals, session.generations) is None
        )


def _subject(owner: OfSubject, origin: Origin) -> PrincipalId:
    if owner.subject is not None and owner.subject != origin.actor:
        _require_admin(origin)
    subject = owner.subject or origin.actor
    assert subject is not None  # noqa: S101  # the table of methods requires an authenticated caller
    return subject


def _is_person(principal: PrincipalId) -> bool:
    """Return whether a principal is a user; only users have sessions of their own.

    The store also lists sessions by the client that the user signed in through.
    """
    return principal.startswith(USER_PREFIX)


def _require_admin(origin: Origin) -> None:
    if not origin.is_admin:
        raise CallerScopeMissingError(f"the caller lacks the scope {SCOPE_ADMIN}")
