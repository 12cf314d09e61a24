"""Writes the records of clients, users and trusted issuers by compare-and-set, each with an audit event.

This process applies each change to its replica at once. The store changes a record and raises the generation
of its principal in one atomic step. If the store does not confirm that, this process enforces the raise and
resends it; the record is not resent.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    NotFoundError,
    StaleEtagError,
)
from identity_service.domain.ids import Link, PrincipalId, new_link
from identity_service.domain.log import Appended, GenerationRaised, RecordKind, Revision
from identity_service.domain.origin import Origin
from identity_service.domain.ports import AuditTrail, ReplicaView
from identity_service.domain.principals import Client, User
from identity_service.domain.records import RecordT, Versioned, kind_of
from identity_service.domain.store import RecordStore
from identity_service.domain.visible import shown
from identity_service.services.revoke import resent_until_confirmed

PrincipalT = TypeVar("PrincipalT", Client, User)
MAX_ATTEMPTS: Final = 8
"""The number of attempts at a change without an etag if other callers change the record at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed(Generic[RecordT]):
    """The new value of a record, and the audit event of the change."""

    record: RecordT
    event: AuditEvent
    revoke: bool = False
    """True if the change revokes everything that was issued to the principal so far."""


class Records:
    """The access of the use cases to the records of clients, users and trusted issuers."""

    def __init__(self, store: RecordStore, trail: AuditTrail, replica: ReplicaView | None = None) -> None:
        """Access the records of this store.

        Without a `replica`, changes are not applied in this process, which then must not answer Verify.
        """
        self._store = store
        self._trail = trail
        self._replica = replica

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT]:
        """Return the record of this kind and id. Raises NotFoundError."""
        found = self._store.get(kind, id_)
        if found is None:
            raise NotFoundError(f"{shown(id_)}: there is no such {kind_of(kind).value}")
        return found

    def list_of(self, kind: type[RecordT], *, after: str, limit: int) -> Sequence[Versioned[RecordT]]:
        """Return up to `limit` records of this kind in the order of their ids, after the id `after`."""
        return self._store.list_of(kind, after=after, limit=limit)

    def find_user(self, username: str) -> Versioned[User]:
        """Return the user of this username. Raises NotFoundError."""
        found = self._store.find_user(username)
        if found is None:
            raise NotFoundError(f"{shown(username)}: there is no such user")
        return found

    def create(self, record: RecordT, event: AuditEvent) -> Versioned[RecordT]:
        """Store a new record. Raises AlreadyExistsError."""
        with _named(getattr(record, "username", record.id)):
            appended = self._store.create(record, audit=event)
        return Versioned(record=record, revision=self._learned(appended, event))

    def change(
        self,
        kind: type[RecordT],
        id_: str,
        decide: Callable[[RecordT], Changed[RecordT]],
        *,
        expected: Revision | None,
    ) -> Versioned[RecordT]:
        """Read a record, call `decide` for its new value, and write that by compare-and-set.

        Without `expected`, a change that lost a race is tried again, up to 8 times in all.

        Raises:
            NotFoundError: there is no such record.
            AlreadyExistsError: another record has the new username or a certificate.
            StaleEtagError: the record is not at the revision `expected`, or every try lost a race.
        """
        attempts = 1 if expected is not None else MAX_ATTEMPTS
        for left in reversed(range(attempts)):
            found = self.get(kind, id_)
            if expected not in (None, found.revision):
                break
            try:
                return self._replace(decide(found.record), found.revision)
            except StaleEtagError:
                if not left:
                    raise
        raise StaleEtagError(f"{shown(id_)}: the record has changed since it was read; read it again")

    def _replace(self, changed: Changed[RecordT], expected: Revision) -> Versioned[RecordT]:
        record, event = changed.record, changed.event
        above, link = self._known_generation(record.id), new_link()
        raises = changed.revoke and isinstance(record, Client | User)
        resending = self._resending(record.id, above, link) if raises else nullcontext()
        with _named(record.id), resending:
            appended = self._store.update(
                record, expected=expected, revoke=changed.revoke, above=above, link=link, audit=event
            )
        return Versioned(record=record, revision=self._learned(appended, event))

    def delete(self, kind: RecordKind, id_: str, event: AuditEvent, *, expected: Revision | None) -> Revision:
        """Delete a record, and revoke everything that was issued to it if it is a client or user.

        Raises NotFoundError, StaleEtagError.
        """
        above, link = self._known_generation(id_), new_link()
        raises = kind in (RecordKind.CLIENT, RecordKind.USER)
        with _named(id_), self._resending(id_, above, link) if raises else nullcontext():
            appended = self._store.delete(kind, id_, expected=expected, above=above, link=link, audit=event)
        return self._learned(appended, event)

    def _known_generation(self, id_: str) -> int:
        if self._replica is None:
            return 0
        known = self._replica.revocations.generations.get(PrincipalId(id_))
        return known.number if known is not None else 0

    def _resending(self, id_: str, above: int, link: Link) -> AbstractContextManager[None]:
        if self._replica is None:
            return nullcontext()
        raised = GenerationRaised(principal=PrincipalId(id_), number=above + 1, origin=link)
        return resent_until_confirmed(self._replica, raised)

    def _learned(self, appended: Appended, event: AuditEvent) -> Revision:
        if self._replica is not None:
            self._replica.learn(appended)
        self._trail.stored(event)
        return appended.revision


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Add the name of the record to the message of the store's error, which does not name it."""
    try:
        yield
    except (NotFoundError, AlreadyExistsError, StaleEtagError) as error:
        raise type(error)(f"{shown(name)}: {error}") from error


def require_another(id_: str, origin: Origin, field: str) -> None:
    """Raise InvalidRequestError, which names this field, if the principal is the caller itself."""
    if origin.actor == id_:
        raise InvalidRequestError.of(field, "must not be the caller itself, which would lose its access")


def updated(
    kind: AuditType,
    before: PrincipalT,
    after: PrincipalT,
    fields: Iterable[str],
    origin: Origin,
    *,
    path: str,
) -> Changed[PrincipalT]:
    """Return the change of these fields; if it disables the principal, it revokes what was issued to it.

    Raises InvalidRequestError, with a field below `path`, if the caller would disable itself.
    """
    if after.disabled:
        require_another(before.id, origin, f"{path}.disabled")
    changed = list(differing(before, after, fields))
    disabled = after.disabled if "disabled" in changed else None
    event = AuditEvent.of(kind, origin, target=before.id, fields=names(changed), disabled=disabled)
    return Changed(record=after, event=event, revoke=after.disabled and not before.disabled)


def names(fields: Iterable[str]) -> str:
    """Return names of fields as one text for an audit event."""
    return ",".join(sorted(fields))


def differing(before: object, after: object, fields: Iterable[str]) -> Iterator[str]:
    """Return those of the fields in which two records differ."""
    return (name for name in fields if getattr(before, name) != getattr(after, name))
