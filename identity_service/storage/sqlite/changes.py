"""One mutation in progress, and reads of the log. Runs inside a transaction of the caller.

Knows the tables `log_head` and `log`; does not interpret the entries.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from identity_service.domain.errors import (
    StoreReplacedError,
    StoreUnavailableError,
    StoreUninitializedError,
)
from identity_service.domain.ids import NO_LINK, Epoch, Link, new_link
from identity_service.domain.log import Appended, Change, Head, LogEntry, LogPage, Marks, Revision
from identity_service.storage.change_codec import decode_change, encode_change
from identity_service.storage.codec import moment, seconds
from identity_service.storage.damage import reading

_MAX_POSITION: Final = 2**63 - 1


class Mutation:
    """A write transaction that appends changes to the log; `appended` returns them afterwards."""

    def __init__(self, connection: sqlite3.Connection, now: datetime, expected: Epoch | None) -> None:
        """Begin in this transaction.

        Raises StoreUninitializedError; StoreReplacedError if the log has another epoch than `expected`.
        """
        head = read_head(connection, now)
        if head.epoch != expected:
            raise StoreReplacedError("the store has another change log than the one this process follows")
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
        """Return whether the log still has this entry. State whose entry is gone proves nothing."""
        row = self.connection.execute("SELECT link FROM log WHERE position = ?", (position,)).fetchone()
        return row is not None and row[0] == link

    @property
    def count(self) -> int:
        """How many changes were appended."""
        return len(self._changes)

    @property
    def revision(self) -> Revision:
        """The end of the log, with the changes that were appended."""
        return self._head.revision

    def appended(self) -> Appended:
        """Return what the write returns to its caller: the revision and the changes."""
        return Appended(revision=self.revision, changes=tuple(self._changes))

    def held(self, change: Change, position: int, link: str) -> Appended:
        """Return what a repeated write returns: the entry that holds the fact already."""
        revision = Revision(epoch=self._head.epoch, position=position, link=Link(link))
        return Appended(revision=revision, changes=((change, Link(link)),))


def read_head(connection: sqlite3.Connection, now: datetime) -> Head:
    """Return the head of the log. Raises StoreUninitializedError, StoreDamagedError."""
    row = connection.execute(
        "SELECT epoch, position, link, floor, retention, complete, lifetime, session, leeway, time, latest"
        " FROM log_head"
    ).fetchone()
    if row is None:
        raise uninitialised()
    with reading("log_head"):
        return _head_of(row, now)


def uninitialised() -> StoreUninitializedError:
    """Return the error for a store without a head."""
    return StoreUninitializedError(
        "the store was never initialised, or it was emptied: check that its URL is right, then run "
        "`identity init`, or `identity restore FILE`"
    )


def _head_of(row: Sequence[Any], now: datetime) -> Head:
    epoch, position, link, floor, retention, complete, *longest, time, latest = row
    lifetime, session, leeway = (timedelta(seconds=duration) for duration in longest)
    return Head(
        epoch=Epoch(epoch),
        position=int(position),
        link=Link(link),
        time=now,
        floor=int(floor),
        retention=timedelta(seconds=retention),
        complete=bool(complete),
        marks=Marks(
            lifetime=lifetime,
            session=session,
            leeway=leeway,
            time=moment(time) if time is not None else None,
            latest=moment(latest) if latest is not None else None,
        ),
    )


def holds_what_it_counts(connection: sqlite3.Connection) -> bool:
    """Return whether the log and the state hold as many entries and generations as the head counts.

    Reads every row, so only a start calls it. Generations may be missing while the log is incomplete.
    """
    row = connection.execute(
        "SELECT kept = (SELECT count(*) FROM log)"
        " AND (NOT complete OR raised = (SELECT count(*) FROM generations)) FROM log_head"
    ).fetchone()
    return row is None or bool(row[0])


def finish_rebuild(mutation: Mutation) -> int:
    """Mark the log as complete and count the generations anew; returns how many are lost for good.

    While generations are lost, the log stays incomplete. Raises StoreUnavailableError if entries vanished
    during the rebuild.
    """
    if not holds_what_it_counts(mutation.connection):
        raise StoreUnavailableError("entries vanished from the change log while it was rebuilt")
    (lost,) = mutation.connection.execute(
        "SELECT raised - (SELECT count(*) FROM generations) FROM log_head"
    ).fetchone()
    if lost <= 0:
        mutation.connection.execute(
            "UPDATE log_head SET complete = 1, raised = (SELECT count(*) FROM generations)"
        )
    return max(0, int(lost))


def create_head(connection: sqlite3.Connection, epoch: Epoch) -> bool:
    """Begin an empty log; returns False if there is a log, or rows of one."""
    for table in ("log", "generations", "records"):
        if connection.execute(f"SELECT 1 FROM {table}").fetchone() is not None:  # noqa: S608  # names from here
            return False
    cursor = connection.execute(
        "INSERT INTO log_head (one, epoch, position, link) VALUES (1, ?, 0, ?) ON CONFLICT DO NOTHING",
        (epoch, NO_LINK),
    )
    return cursor.rowcount == 1


def renew(connection: sqlite3.Connection, found: Epoch | None, epoch: Epoch) -> Epoch:
    """Give the log a new epoch, if it still has the epoch `found`; returns the epoch that it has now.

    From then on, entries up to the present end may be missing (the floor), and the log is incomplete until a
    rebuild has appended what the state holds. The count of generations never decreases, so that the rebuild
    sees whether one is lost for good. Raises StoreUninitializedError if `found` is an epoch and the store has
    lost its head.
    """
    row = connection.execute("SELECT epoch, position FROM log_head").fetchone()
    held, known = row if row is not None else (None, 0)
    if held is not None and held != found:
        return Epoch(held)
    if held is None and found is not None:
        raise StoreUninitializedError("the store has lost its change log since it was last read")
    given = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
    position = max(known, given[0] if given is not None else 0)
    last = connection.execute("SELECT link FROM log WHERE position = ?", (position,)).fetchone()
    lost = new_link() if position else NO_LINK
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'log'")
    connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('log', ?)", (position,))
    connection.execute(
        "INSERT INTO log_head (one, epoch, position, link, floor, kept, raised, complete)"
        " VALUES (1, ?, ?, ?, ?, (SELECT count(*) FROM log), (SELECT count(*) FROM generations), 0)"
        " ON CONFLICT DO UPDATE SET epoch = excluded.epoch, position = excluded.position,"
        " link = excluded.link, floor = excluded.floor, kept = excluded.kept,"
        " raised = max(raised, excluded.raised), complete = 0",
        (epoch, position, last[0] if last is not None else lost, position),
    )
    return epoch


def keep(connection: sqlite3.Connection, head: Head, retention: timedelta, marks: Marks) -> Head:
    """Raise the retention and the marks to at least these values; returns the head.

    The head says whether the log has vanished entries at its end (`Head.whole`).
    """
    marks = head.marks.merged(marks).merged(Marks(latest=head.time))
    retention = max(head.retention, retention)
    if marks != head.marks or retention != head.retention:
        connection.execute(
            "UPDATE log_head SET retention = ?, lifetime = ?, session = ?, leeway = ?, time = ?, latest = ?",
            (
                retention.total_seconds(),
                marks.lifetime.total_seconds(),
                marks.session.total_seconds(),
                marks.leeway.total_seconds(),
                seconds(marks.time) if marks.time is not None else None,
                seconds(marks.latest) if marks.latest is not None else None,
            ),
        )
    (last,) = connection.execute("SELECT max(position) FROM log").fetchone()
    whole = head.position <= max(head.floor, last or 0)
    return replace(head, marks=marks, retention=retention, whole=whole)


def accept_clock(connection: sqlite3.Connection, time: datetime) -> None:
    """Set the latest steady time and the latest time back, as an operator has decided."""
    connection.execute("UPDATE log_head SET time = ?, latest = ?", (seconds(time), seconds(time)))


def trim(mutation: Mutation, head: Head, position: int) -> int:
    """Delete the entries up to a position, if that entry is older than the retention; returns the floor."""
    row = mutation.connection.execute("SELECT time FROM log WHERE position = ?", (position,)).fetchone()
    if row is None or not head.floor < position < head.position or not head.retention:
        return head.floor
    if moment(row[0]) + head.retention > mutation.now:
        return head.floor
    gone = mutation.connection.execute("DELETE FROM log WHERE position <= ?", (position,)).rowcount
    mutation.connection.execute("UPDATE log_head SET floor = ?, kept = kept - ?", (position, gone))
    return position


def read_log(connection: sqlite3.Connection, now: datetime, after: int, limit: int) -> LogPage:
    """Return at most `limit` entries after position `after`, with the head."""
    head = read_head(connection, now)
    return LogPage(entries=read_entries(connection, after, limit), head=head)


def read_entries(connection: sqlite3.Connection, after: int, limit: int) -> tuple[LogEntry, ...]:
    """Return at most `limit` entries after position `after`, the oldest first."""
    rows = connection.execute(
        "SELECT position, link, previous_link, change FROM log WHERE position > ? ORDER BY position LIMIT ?",
        (min(after, _MAX_POSITION), limit),
    )
    return tuple(_entry_of(*row) for row in rows)


def _entry_of(position: int, link: str, previous: str, change: str) -> LogEntry:
    """Return the entry of a row. Raises StoreDamagedError, which names the position."""
    try:
        return LogEntry(position, Link(link), Link(previous), decode_change(change))
    except Exception:
        with reading(f"log, position {position}", "is no entry that this version knows"):
            decode_change(change)
        raise
