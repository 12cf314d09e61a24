"""Copying a whole store: what a copy consists of, and the ports that read one store and write another.

A backup is a copy in a file; a migration is a copy from one store to another. Knows no file and no database.
Every store has both ports as one object, its property `copying` (`CopyableStore`).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from identity_service.domain.audit import StoredEvent
from identity_service.domain.ids import Epoch, PrincipalId
from identity_service.domain.log import Generation, Head, Marks, RecordKind, SessionEnded, TokenDenied
from identity_service.domain.sessions import Session
from identity_service.domain.store import Record, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedMarks:
    """What only grows and belongs to no entry: the high-water marks, and how far back the log must reach."""

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
class RecordGone:
    """A record that stands earlier in the copy was deleted while the store was copied."""

    kind: RecordKind
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedUse:
    """Something that works once only (a token id of an assertion) was used; forgotten at `until`."""

    key: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedSession:
    """A session that has not ended. Only a migration has sessions, a backup never."""

    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedEvent:
    """An audit event with the time at which it was stored. Only a migration has events; the oldest first."""

    event: StoredEvent


CopiedItem = (
    CopiedMarks
    | CopiedGeneration
    | TokenDenied
    | SessionEnded
    | CopiedRecord
    | RecordGone
    | CopiedUse
    | CopiedSession
    | CopiedEvent
)
"""Items come in any order, and repeating one is harmless: marks, generations and revocations only grow, the
last item of a record counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Says that a store takes no writes any more, since it was copied to another one."""

    target: str
    """The URL of the other store, without passwords."""
    epoch: Epoch
    """The epoch that the other store gets: if it has this epoch, the migration has succeeded."""


class CopySource(Protocol):
    """A store that can be copied while processes use it."""

    def export(self, *, whole: bool) -> AbstractContextManager[tuple[Head, Iterator[CopiedItem]]]:
        """Give the head, and every item that the store held at that position of the log.

        The items may hold later changes, too, but never a part of one. With `whole` sessions and audit
        events are among the items; then the caller has fenced the store before.

        The iterator ends with the block; it is read by one thread, and other threads and processes go on
        meanwhile. The marks are among the items, an ended or expired session is not.

        Raises StoreUninitializedError; StoreDamagedError if the log is not complete or the store does not
        hold what its head counts: start the service once, it completes the log; StoreReplacedError if the
        store got another epoch in between (the iterator raises it as well): begin again;
        StoreUnavailableError, also from the iterator.
        """

    def fence(self, fence: Fence) -> None:
        """Refuse every write of every process from now on, durably, heartbeats included.

        Such a write raises StoreFencedError; reading stays possible. A fence to the same target is replaced.
        Raises StoreFencedError if the store is fenced for another target, StoreUninitializedError,
        StoreUnavailableError, NotConfirmedError if the fence stands and it is not known whether durably.
        """

    def fenced(self) -> Fence | None:
        """Return the fence that stands, or None. Raises StoreUninitializedError, StoreUnavailableError."""

    def lift_fence(self, only: Fence | None = None) -> bool:
        """Take writes again; returns whether a fence was lifted.

        Nothing happens if there is none, or if `only` is given and another one stands by then: it belongs to
        a migration that has begun, or finished, meanwhile. Raises StoreUnavailableError.
        """


class CopyTarget(Protocol):
    """A store that a copy can be written into."""

    def is_virgin(self) -> bool:
        """Whether the store holds no key of this service, not even a part of a copy."""

    def has_part_of_copy(self) -> bool:
        """Whether a copy was begun here and never finished: there is no head, but other state of a copy."""

    def generations_held(self) -> Mapping[PrincipalId, Generation]:
        """Return the generations of a store that is about to be replaced, also if it has lost its head."""

    def write_copy(self, items: Iterable[CopiedItem], epoch: Epoch, *, replace: bool) -> None:
        """Write all items, and the head last: without it no process starts on the store.

        The head gets this epoch, position 0, and the mark that the log is to be completed from the state;
        the caller calls `adopt` and `rebuild` next. With `replace` whatever the store holds is deleted
        before, its head first, a part of a copy and a fence included. A call that fails, or whose `items`
        raise, leaves no head; `has_part_of_copy` is then True, or the store is as it was. Until it is
        finished, `initialise` and every read of the head raise CopyUnfinishedError. Records get the revision
        of position 0.

        Raises AlreadyExistsError if the store is not virgin and `replace` is False; StoreUnavailableError;
        NotConfirmedError if the head was written and it is not known whether durably.
        """

    def discard_copy(self) -> None:
        """Delete what a copy that was not finished has left; nothing happens if there is none.

        A copy that another process is about to finish is over when this returns: it has its head, which is
        told by the error, or it will never have one. Raises AlreadyExistsError if there is a head;
        StoreUnavailableError, also while another process is in the middle of writing.
        """


class Copying(CopySource, CopyTarget, Protocol):
    """What copies out of a store, and into it."""


class CopyableStore(Store, Protocol):
    """A store together with what copies it."""

    @property
    def copying(self) -> Copying:
        """The ports that read the whole of this store, and write it."""
