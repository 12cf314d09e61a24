"""One mutation in progress, and reading the log. Runs inside a transaction that somebody else owns.

Knows the tables `head` and `log`; what the entries mean is no matter here.
"""

import sqlite3
from datetime import datetime
from typing import Final

from identity_service.domain.errors import StoreReplacedError, StoreUninitializedError
from identity_service.domain.ids import NO_LINK, Epoch, Link, new_link
from identity_service.domain.log import Appended, Change, Head, LogEntry, LogPage, Revision
from identity_service.storage.codec import decode_change, encode_change, moment, seconds

_MAX_POSITION: Final = 2**63 - 1


class Mutation:
    """What one write transaction appends to the log; `appended` says it afterwards."""

    def __init__(self, connection: sqlite3.Connection, now: datetime, expected: Epoch | None) -> None:
        """Raises StoreUninitializedError, StoreReplacedError (an epoch other than `expected`)."""
        head = read_head(connection, now)
        if head.epoch != expected:
            raise StoreReplacedError("the store has another change log than the one this process follows")
        self.connection = connection
        self.now = now
        self._head = head
        self._changes: list[tuple[Change, Link]] = []

    def append(self, change: Change) -> tuple[int, Link]:
        """Put one change at the end of the log; returns its position and link."""
        link, previous = new_link(), self._head.link
        cursor = self.connection.execute(
            "INSERT INTO log (link, previous_link, time, change) VALUES (?, ?, ?, ?)",
            (link, previous, seconds(self.now), encode_change(change)),
        )
        position = int(cursor.lastrowid or 0)
        self.connection.execute("UPDATE head SET position = ?, link = ?", (position, link))
        self._head = Head(epoch=self._head.epoch, position=position, link=link, time=self.now)
        self._changes.append((change, link))
        return position, link

    @property
    def revision(self) -> Revision:
        """The end of the log as it is now."""
        return self._head.revision

    def appended(self) -> Appended:
        return Appended(revision=self.revision, changes=tuple(self._changes))

    def held(self, change: Change, position: int, link: str) -> Appended:
        """What a repetition returns: the entry that holds the fact already."""
        revision = Revision(epoch=self._head.epoch, position=position)
        return Appended(revision=revision, changes=((change, Link(link)),))


def read_head(connection: sqlite3.Connection, now: datetime) -> Head:
    """Raises StoreUninitializedError where there is none."""
    row = connection.execute("SELECT epoch, position, link FROM head").fetchone()
    if row is None:
        raise StoreUninitializedError(
            "the store was never initialised, or it was emptied: run `identity init`"
        )
    epoch, position, link = row
    return Head(epoch=Epoch(epoch), position=position, link=Link(link), time=now)


def create_head(connection: sqlite3.Connection, epoch: Epoch) -> bool:
    """Begin an empty log; False where there is one."""
    cursor = connection.execute(
        "INSERT INTO head (one, epoch, position, link) VALUES (1, ?, 0, ?) ON CONFLICT DO NOTHING",
        (epoch, NO_LINK),
    )
    return cursor.rowcount == 1


def read_log(connection: sqlite3.Connection, now: datetime, after: int, limit: int) -> LogPage:
    head = read_head(connection, now)
    rows = connection.execute(
        "SELECT position, link, previous_link, time, change FROM log WHERE position > ?"
        " ORDER BY position LIMIT ?",
        (min(after, _MAX_POSITION), limit),
    )
    entries = tuple(
        LogEntry(
            position=position,
            link=Link(link),
            previous_link=Link(previous),
            time=moment(time),
            change=decode_change(change),
        )
        for position, link, previous, time, change in rows
    )
    return LogPage(entries=entries, head=head)
