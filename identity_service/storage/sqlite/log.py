"""The change log on SQLite: reading it, heartbeats, a new epoch, repair and trimming.

The module knows the tables `log_head`, `log` and `beats`; `rebuilding.py` completes log and state from each
other.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from identity_service.domain.change_log import NO_MARKS, STATUS_LENGTH
from identity_service.domain.errors import StoreUnavailableError, StoreUninitializedError
from identity_service.domain.ids import NO_LINK, Epoch, Link, PrincipalId, new_link
from identity_service.domain.log import (
    Fact,
    Generation,
    Head,
    Heartbeat,
    LogEntry,
    LogPage,
    Marks,
    RepairResult,
)
from identity_service.storage.codec import decode_change, encode_marks, moment, reading, seconds
from identity_service.storage.sqlite import rebuilding
from identity_service.storage.sqlite.facts import all_generations, forget_expired, restore
from identity_service.storage.sqlite.transactions import Mutation, Transactions, read_head
from identity_service.storage.whole_log import require_none_lost

_MAX_POSITION: Final = 2**63 - 1
_REMEMBERED: Final = timedelta(hours=1)
"""The time for which the last heartbeat of a process is kept."""


class SqliteLog:
    """The change log of a store in one SQLite file; implements the port `ChangeLog`."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._counted: Epoch | None = None

    def head(self) -> Head:
        """Return the head; count the rows (`Head.whole`) until they were complete once for this epoch."""
        with self._transactions.reading() as connection:
            head = read_head(connection, self._transactions.now())
            if self._counted == head.epoch:
                return head
            # Counting reads every row, so it is skipped once the rows of this epoch were complete.
            whole = holds_what_it_counts(connection)
        self._counted = head.epoch if whole else None
        return replace(head, whole=whole)

    def read(self, after: int, limit: int) -> LogPage:
        """Return the entries after a position with the head, in one snapshot."""
        with self._transactions.reading() as connection:
            head = read_head(connection, self._transactions.now())
            return LogPage(entries=read_entries(connection, after, limit), head=head)

    def read_entries(self, after: int, limit: int) -> tuple[LogEntry, ...]:
        """Return the entries after a position."""
        with self._transactions.reading() as connection:
            return read_entries(connection, after, limit)

    def wait(self, after: int, timeout: float) -> None:
        """Wait for an entry after a position, at most `timeout` seconds; polls for other processes."""
        self._transactions.wait(lambda: self._position() > after, timeout)

    def heartbeat(
        self, process: str, retention: timedelta = timedelta(0), *, marks: Marks = NO_MARKS, status: str = ""
    ) -> Head:
        """Write the heartbeat, the retention and the marks; delete rows that expired a day ago."""
        # Under any epoch: a process learns of another epoch from the head that this returns.
        with self._transactions.writing() as connection:
            now = self._transactions.now()
            head = read_head(connection, now)
            connection.execute("DELETE FROM beats WHERE time <= ?", (seconds(now - _REMEMBERED),))
            connection.execute(
                "INSERT OR REPLACE INTO beats (process, time, status) VALUES (?, ?, ?)",
                (process, seconds(now), status[:STATUS_LENGTH]),
            )
            forget_expired(connection, now)
            return _keep(connection, head, retention, marks)

    def heartbeats(self) -> Sequence[Heartbeat]:
        """Return the heartbeats of the last hour, the latest first."""
        with self._transactions.reading() as connection:
            rows = connection.execute(
                "SELECT process, time, status FROM beats WHERE time > ? ORDER BY time DESC",
                (seconds(self._transactions.now() - _REMEMBERED),),
            )
            return tuple(
                Heartbeat(process=process, time=moment(time), status=status) for process, time, status in rows
            )

    def generations(self) -> Mapping[PrincipalId, Generation]:
        """Return the generation of every principal that was ever raised."""
        with self._transactions.reading() as connection:
            return all_generations(connection)

    def adopt(self, epoch: Epoch) -> None:
        """Remember the epoch that mutations must find."""
        self._transactions.adopt(epoch)

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        """Give the log a new epoch, if it still has the epoch `found`."""
        with self._transactions.writing() as connection:
            return _renew(connection, found, epoch)

    def repair(self, facts: Sequence[Fact]) -> RepairResult:
        """Append the facts that are absent, in one transaction."""
        with self._transactions.mutation() as mutation:
            for fact in facts:
                restore(mutation, fact)
            return RepairResult(end=mutation.revision, absent=mutation.count)

    def rebuild(self) -> int:
        """Complete the log from the state, up to 1,000 facts in a transaction."""
        # One epoch for all steps: another thread may adopt a new one meanwhile, whose log stays incomplete.
        epoch = self._transactions.expected()
        with self._transactions.reading() as connection:
            lost = rebuilding.lost_in_state(connection)
        with self._transactions.mutation(epoch=epoch) as mutation:
            for fact in lost:
                restore(mutation, fact)
            missing = mutation.count
        for columns, fact_of in rebuilding.STATE:
            ids: Sequence[str] = [""]
            while ids:
                with self._transactions.mutation(epoch=epoch) as mutation:
                    ids = rebuilding.append_absent(mutation, columns, fact_of, after=ids[-1])
                missing += len(ids)
        with self._transactions.mutation(epoch=epoch) as mutation:
            lost_for_good = finish_rebuild(mutation)
        require_none_lost("the table `generations`", lost_for_good)
        return missing

    def trim(self, position: int, keep: Sequence[Fact] = ()) -> int:
        """Delete entries up to a position, and append those of `keep` that are absent then."""
        with self._transactions.mutation() as mutation:
            head = read_head(mutation.connection, mutation.now)
            floor = _trim(mutation, head, position)
            if floor == position > head.floor:
                for fact in keep:
                    restore(mutation, fact)
            return floor

    def _position(self) -> int:
        """Return the position of the last entry."""
        with self._transactions.reading() as connection:
            return read_head(connection, self._transactions.now()).position


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
        with reading(f"log, position {position}", "is not an entry that this version knows"):
            decode_change(change)
        raise


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


def _renew(connection: sqlite3.Connection, found: Epoch | None, epoch: Epoch) -> Epoch:
    """Give the log a new epoch, if it still has the epoch `found`; returns the epoch that it has now.

    From then on, entries up to the present end may be missing (the floor), and the log is incomplete until a
    rebuild has appended the facts of the state. The count of generations never decreases, so that the rebuild
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


def _keep(connection: sqlite3.Connection, head: Head, retention: timedelta, marks: Marks) -> Head:
    """Raise the retention and the marks to at least these values; returns the head.

    The head says whether the log has vanished entries at its end (`Head.whole`).
    """
    marks = head.marks.merged(marks).merged(Marks(latest=head.time))
    retention = max(head.retention, retention)
    if marks != head.marks or retention != head.retention:
        connection.execute(
            "UPDATE log_head SET retention = ?, lifetime = ?, session = ?, leeway = ?, time = ?, latest = ?",
            (retention.total_seconds(), *encode_marks(marks)),
        )
    (last,) = connection.execute("SELECT max(position) FROM log").fetchone()
    whole = head.position <= max(head.floor, last or 0)
    return replace(head, marks=marks, retention=retention, whole=whole)


def _trim(mutation: Mutation, head: Head, position: int) -> int:
    """Delete the entries up to a position, if that entry is older than the retention; returns the floor."""
    row = mutation.connection.execute("SELECT time FROM log WHERE position = ?", (position,)).fetchone()
    if row is None or not head.floor < position < head.position or not head.retention:
        return head.floor
    if moment(row[0]) + head.retention > mutation.now:
        return head.floor
    gone = mutation.connection.execute("DELETE FROM log WHERE position <= ?", (position,)).rowcount
    mutation.connection.execute("UPDATE log_head SET floor = ?, kept = kept - ?", (position, gone))
    return position
