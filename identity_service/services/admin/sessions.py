"""Sessions: who is signed in where, and ending that. Everybody may do both with what is their own.

Lists what lives: neither ended nor expired, and no generation of its principals was raised over it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import CallerScopeMissingError, NotFoundError
from identity_service.domain.grants import SCOPE_ADMIN
from identity_service.domain.ids import EVERYONE, USER_PREFIX, PrincipalId, SessionId
from identity_service.domain.log import Revision
from identity_service.domain.origin import Origin
from identity_service.domain.ports import Clock, ReplicaView
from identity_service.domain.sessions import Session
from identity_service.domain.store import Store
from identity_service.services.revoke import Revoker

_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class OfSubject:
    """The sessions of a person; None = of whoever calls."""

    subject: PrincipalId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfClient:
    """The sessions of people who signed in through a client."""

    client_id: PrincipalId


@dataclass(frozen=True, slots=True, kw_only=True)
class OneSession:
    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class AllBut:
    """All sessions of a subject, but one where one is named."""

    owner: OfSubject
    kept: SessionId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of ending sessions."""

    revision: Revision
    count: int


class Sessions:
    """The use cases that are about sessions."""

    def __init__(self, store: Store, replica: ReplicaView, revoker: Revoker, clock: Clock) -> None:
        self._store = store
        self._replica = replica
        self._revoker = revoker
        self._clock = clock

    def list(
        self, owner: OfSubject | OfClient, origin: Origin, *, before: str = "", limit: int = 100
    ) -> tuple[Sequence[Session], bool]:
        """Live sessions before `before`, the newest sign-in first, and whether more follow.

        A page may be short before the end, but not empty.

        Raises CallerScopeMissingError: somebody else's, and the caller is no administrator.
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
        """End the sessions, durably.

        Raises:
            CallerScopeMissingError: another subject's, and the caller is no administrator.
            NotFoundError: there is no such session, or none of the caller's own.
            UnavailableError: the store did not confirm; those before are ended, and it can be repeated.
        """
        if isinstance(target, OneSession):
            return self._end_one(target.session_id, origin, reason)
        subject = _subject(target.owner, origin)
        # All are looked up before the first one ends, so that none can slip over the edge of a page.
        found = [sid for sid in self._all(subject) if sid != target.kept] if _is_person(subject) else []
        revision = self._replica.revision
        for session_id in found:
            revision = self._end(session_id, subject, origin, reason)
        return Ended(revision=revision, count=len(found))

    def _end_one(self, session_id: SessionId, origin: Origin, reason: str) -> Ended:
        state = self._store.read_session(session_id)
        # Somebody else's session is answered as one that is not there, so that ids cannot be probed.
        if state is None or not (origin.is_admin or state.session.subject == origin.actor):
            raise NotFoundError("there is no such session")
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
        """At most `limit`, and at least one where any is left."""
        while batch := self._store.list_sessions(owner, before=before, limit=limit):
            if live := [session for session in batch if self._lives(session)]:
                return live
            before = batch[-1].session_id
        return ()

    def _lives(self, session: Session) -> bool:
        known = self._replica.revocations
        principals = frozenset({EVERYONE, session.subject, session.client_id, *session.generations})
        return (
            session.session_id not in known.denylist
            and session.expire_time > self._clock.now()
            and known.raised_over(principals, session.generations) is None
        )


def _subject(owner: OfSubject, origin: Origin) -> PrincipalId:
    if owner.subject is not None and owner.subject != origin.actor:
        _require_admin(origin)
    subject = owner.subject or origin.actor
    assert subject is not None  # noqa: S101  # the policy lets nobody in who was not proven
    return subject


def _is_person(principal: PrincipalId) -> bool:
    """Only people sign in. The store knows sessions by client too, and those are not the client's own."""
    return principal.startswith(USER_PREFIX)


def _require_admin(origin: Origin) -> None:
    if not origin.is_admin:
        raise CallerScopeMissingError(f"the caller lacks the scope {SCOPE_ADMIN}")
