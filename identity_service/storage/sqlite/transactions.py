"""The transactions of a store, with the checks and rows that each write needs besides its own rows.

A part of the store gets its connections here only, so no write of a part goes past the fence of a store that
was moved, no mutation past the check of the epoch, and no audit event is left out.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditKind, RingSizes
from identity_service.domain.errors import StoreReplacedError, StoreUninitializedError
from identity_service.domain.ids import Epoch, Link, new_link
from identity_service.domain.log import Appended, Change, Head, Revision
from identity_service.domain.ports import Clock
from identity_service.storage.codec import (
    decode_marks,
    encode_change,
    encode_event,
    fence_error,
    reading,
    seconds,
)
from identity_service.storage.sqlite.database import Database

FENCE: Final = "log_head, fence"
"""The place of the fence, as errors name it."""


class Mutation:
    """A write transaction that appends changes to the log; `appended` returns them afterwards."""

    def __init__(self, connection: sqlite3.Connection, now: datetime, expected: Epoch | None) -> None:
        """Begin in this transaction.

        Raises StoreUninitializedError; StoreReplacedError if the log has another epoch than `expected`.
        """
        head = read_head(connection, now)
        if head.epoch != expected:
            raise StoreReplacedError
        self.connection = connection
        self.now = now
        self._head = head
        self._changes: list[tuple[Change, Link]] = []

    def append(self, change: Change, link: Link | None = None) -> tuple[int, Link]:
        """Append one change to the log; returns the position and link of its entry."""
        link, previous = link or new_link(), self._head.link
        cursor = self.connection.execute(
            "INSERT INTO log (link, previous_link, time, change) VALUES (?, ?, ?, ?)",
            (link, previous, seconds(self.now), encode_change(change)),
        )
        position = int(cursor.lastrowid or 0)
        self.connection.execute(
            "UPDATE log_head SET position = ?, link = ?, kept = kept + 1", (position, link)
        )
        self._head = replace(self._head, position=position, link=link)
        self._changes.append((change, link))
        return position, link

    def stands(self, position: int, link: str) -> bool:
        """Return whether the log still has this entry; without it, the state proves nothing."""
        row = self.connection.execute("SELECT link FROM log WHERE position = ?", (position,)).fetchone()
        return row is not None and row[0] == link

    @property
    def count(self) -> int:
        """The number of changes that were appended."""
        return len(self._changes)

    @property
    def revision(self) -> Revision:
        """The end of the log, with the changes that were appended."""
        return self._head.revision

    def appended(self) -> Appended:
        """Return the result of the write for its caller: the revision and the changes."""
        return Appended(revision=self.revision, changes=tuple(self._changes))

    def held(self, change: Change, position: int, link: str) -> Appended:
        """Return the result of a repeated write: the entry that holds the fact already."""
        revision = Revision(epoch=self._head.epoch, position=position, link=Link(link))
        return Appended(revision=revision, changes=((change, Link(link)),))


class Transactions:
    """The starter of all transactions of the parts of one store. Thread-safe."""

    def __init__(self, database: Database, clock: Clock, keep: RingSizes) -> None:
        self._database = database
        self._clock = clock
        self._keep = keep
        self._epoch: Epoch | None = None

    def adopt(self, epoch: Epoch) -> None:
        """Expect this epoch in every mutation from now on."""
        self._epoch = epoch

    def expected(self) -> Epoch | None:
        """Return the epoch that mutations expect; None = none, and every mutation fails."""
        return self._epoch

    def now(self) -> datetime:
        """Return the time of the store."""
        return self._clock.now()

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Run a read transaction: all its statements see one snapshot."""
        return self._database.reading()

    @contextmanager
    def writing(self, events: Sequence[AuditEvent] = ()) -> Iterator[sqlite3.Connection]:
        """Run a write transaction, and store audit events in it. Raises StoreFencedError if fenced."""
        with self._database.writing() as connection:
            row = connection.execute("SELECT fence FROM log_head").fetchone()
            if row is not None and row[0]:
                raise fence_error(str(row[0]), FENCE)
            yield connection
            if events:
                for event in events:
                    insert_event(connection, event, self.now())
                forget_oldest_events(connection, self._keep)

    @contextmanager
    def mutation(self, audit: AuditEvent | None = None, *, epoch: Epoch | None = None) -> Iterator[Mutation]:
        """Run a write transaction that changes the log, with its audit event in the same transaction.

        Its entries are announced to all processes after the commit. Raises StoreReplacedError unless the log
        has `epoch`, or by default the adopted epoch.
        """
        with self.writing([audit] if audit is not None else ()) as connection:
            mutation = Mutation(connection, self.now(), epoch or self._epoch)
            yield mutation
        if mutation.count:
            self._database.announce()

    def wait(self, happened: Callable[[], bool], timeout: float) -> None:
        """Wait as `Database.wait` does."""
        self._database.wait(happened, timeout)


def read_head(connection: sqlite3.Connection, now: datetime) -> Head:
    """Return the head of the log. Raises StoreUninitializedError, StoreDamagedError."""
    row = connection.execute(
        "SELECT epoch, position, link, floor, retention, complete, lifetime, session, leeway, time, latest"
        " FROM log_head"
    ).fetchone()
    if row is None:
        raise StoreUninitializedError
    with reading("log_head"):
        epoch, position, link, floor, retention, complete, *marks = row
        return Head(
            epoch=Epoch(epoch),
            position=int(position),
            link=Link(link),
            time=now,
            floor=int(floor),
            retention=timedelta(seconds=retention),
            complete=bool(complete),
            marks=decode_marks(*marks),
        )


def insert_event(connection: sqlite3.Connection, event: AuditEvent, time: datetime) -> None:
    """Append one event to its ring, and delete none."""
    if event.type.kind is AuditKind.CHANGE:
        statement = "INSERT INTO audit (time, event) VALUES (?, ?)"
    else:
        statement = (
            "INSERT INTO audit_traffic (after_id, time, event) VALUES"
            " ((SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'audit'), ?, ?)"
        )
    connection.execute(statement, (seconds(time), encode_event(event)))


def forget_oldest_events(connection: sqlite3.Connection, keep: RingSizes) -> None:
    """Delete all but the newest events of each ring.

    The ids of a table have no gaps, so a difference of ids is a number of rows.
    """
    connection.execute("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", (keep.changes,))
    connection.execute(
        "DELETE FROM audit_traffic WHERE id <= (SELECT max(id) FROM audit_traffic) - ?", (keep.traffic,)
    )
