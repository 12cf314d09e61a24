"""Copies of a whole store: the items of a copy, and the ports that read one store and write another.

A backup is a copy in a file; a migration is a copy from one store to another. The module knows no file
format, no cryptography and no database. Every store offers both ports as one object (`Store.copying`).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from identity_service.domain.audit import StoredEvent
from identity_service.domain.ids import Epoch, PrincipalId
from identity_service.domain.log import Generation, Head, Marks, RecordKind, SessionEnded, TokenDenied
from identity_service.domain.records import Record
from identity_service.domain.sessions import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedMarks:
    """Values that only grow and belong to no entry: the high-water marks, and the retention of the log."""

    marks: Marks
    retention: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedGeneration:
    """The generation of one principal, `*` and retired keys (`*key:<kid>`) included."""

    principal: PrincipalId
    generation: Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedRecord:
    """A client, user, key or trusted issuer; a later one of the same kind and id replaces an earlier one."""

    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDeleted:
    """A record that is earlier in the copy was deleted while the store was being copied."""

    kind: RecordKind
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedUse:
    """A single-use key (such as the `jti` of an assertion) that was used; the store forgets it at `until`."""

    key: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedSession:
    """A session that has not ended. Only a migration copies sessions, a backup never does."""

    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedEvent:
    """An audit event with the time at which it was stored.

    Only a migration copies events; it copies the oldest first.
    """

    event: StoredEvent


CopiedItem = (
    CopiedMarks
    | CopiedGeneration
    | TokenDenied
    | SessionEnded
    | CopiedRecord
    | RecordDeleted
    | CopiedUse
    | CopiedSession
    | CopiedEvent
)
"""One item of a copy. Items come in any order, and repeating an item is harmless: marks, generations and
revocations only grow, and the last item of a record counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A mark that makes a store refuse all writes, since it was copied to another store."""

    target: str
    """The URL of the other store, without passwords."""
    epoch: Epoch
    """The epoch that the other store gets: if it has this epoch, the migration has succeeded."""


class CopySource(Protocol):
    """A store that can be copied while processes use it."""

    def export(self, *, whole: bool) -> AbstractContextManager[tuple[Head, Iterator[CopiedItem]]]:
        """Return the head, and every item that the store held at that position of the log.

        The items may also hold later changes, but never a part of a change. With `whole` the items include
        sessions and audit events; the caller must have fenced the store before.

        The iterator ends with the `with` block; one thread reads it, and other threads and processes go on
        meanwhile. The marks are among the items; ended and expired sessions are not.

        Raises StoreUninitializedError; StoreDamagedError if the log is incomplete or the store does not hold
        what its head counts (start the service once: it completes the log); StoreReplacedError if the store
        got another epoch in between (the iterator raises it as well): begin again; StoreUnavailableError,
        also from the iterator.
        """

    def fence(self, fence: Fence) -> None:
        """Refuse every write of every process from now on, durably, heartbeats included.

        Such a write raises StoreFencedError; reading stays possible. A fence with the same target is
        replaced. Raises StoreFencedError if the store is fenced for another target, StoreUninitializedError,
        StoreUnavailableError, and NotConfirmedError if the fence is set but possibly not durable.
        """

    def fenced(self) -> Fence | None:
        """Return the fence that is set, or None. Raises StoreUninitializedError, StoreUnavailableError."""

    def lift_fence(self, only: Fence | None = None) -> bool:
        """Accept writes again; return whether a fence was removed.

        Does nothing if there is no fence, or if `only` is given and another fence is set: that fence belongs
        to a migration that has begun, or finished, meanwhile. Raises StoreUnavailableError.
        """


class CopyTarget(Protocol):
    """A store that a copy can be written into."""

    def is_empty(self) -> bool:
        """Return whether the store holds no key of this service, not even a part of a copy."""

    def has_part_of_copy(self) -> bool:
        """Return whether a copy into this store was begun and not finished: it has state, but no head."""

    def generations_held(self) -> Mapping[PrincipalId, Generation]:
        """Return the generations of a store that is about to be replaced, even if it has lost its head."""

    def write_copy(self, items: Iterable[CopiedItem], epoch: Epoch, *, replace: bool) -> None:
        """Write all items, and the head last: without a head no process starts on the store.

        The head gets this epoch, position 0, and `complete` False; the caller calls `adopt` and `rebuild`
        next. With `replace`, everything that the store holds is deleted first, beginning with its head, and
        including a part of a copy and a fence. If the call fails or `items` raises, there is no head;
        `has_part_of_copy` is then True, or the store is as it was. Until the copy is finished, `initialise`
        and every read of the head raise CopyUnfinishedError. Records get the revision of position 0.

        Raises AlreadyExistsError if the store is not empty and `replace` is False; StoreUnavailableError;
        NotConfirmedError if the head was written but is possibly not durable.
        """

    def discard_copy(self) -> None:
        """Delete the remains of an unfinished copy; does nothing if there is none.

        If another process is about to finish the copy, either that process fails, or this call raises
        AlreadyExistsError, since the copy has a head by then. Raises StoreUnavailableError; one cause is that
        another process is in the middle of a write.
        """


class Copying(CopySource, CopyTarget, Protocol):
    """Both ports of one store: copying out of it, and into it."""


# Backups


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The description of a backup, stored in it."""

    time: datetime
    """The time at which the backup was made, by the store's clock."""
    revision: str
    """The revision at the end of the store's log: everything up to it is in the backup."""
    issuer: str
    """The `issuer` of the settings with which the backup was made."""
    version: str
    """The version of the program that made the backup."""


class BackupWriter(Protocol):
    """A writer of one backup."""

    def require_free(self) -> None:
        """Raise AlreadyExistsError if there is already something at the place of the backup."""

    def write(self, manifest: Manifest, items: Iterable[CopiedItem]) -> Mapping[str, int]:
        """Write the whole backup durably, or leave nothing behind; return the number of items of each kind.

        Exceptions of the iteration are passed on. Raises AlreadyExistsError, ConfigurationError.
        """


class BackupReader(Protocol):
    """A reader of one backup.

    Every method raises ConfigurationError if the backup is incomplete or not authentic.
    """

    @property
    def manifest(self) -> Manifest:
        """Return the manifest of the backup."""

    def items(self) -> Iterator[CopiedItem]:
        """Yield all items.

        They are verified part by part, so an error may come as late as at the last item.
        """
