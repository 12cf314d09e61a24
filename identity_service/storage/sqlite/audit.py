"""Audit events as rows of two rings, `audit` for changes and `audit_traffic`.

Readers see both rings as one sequence. The place of a change is its id, which AUTOINCREMENT assigns. The
place of an event of traffic is the last of these ids at that time, followed by its own id. As text: `17`,
then `17-5`, `17-6`, then `18`. A store of an older version has events of traffic in `audit`, too; they stay
until newer events displace them.
"""

import re
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from identity_service.domain.audit import MAX_LOOKED_AT, AuditEvent, AuditFilter, StoredEvent
from identity_service.storage.codec import decode_event, moment
from identity_service.storage.sqlite.transactions import Transactions

_ID: Final = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_FURTHEST: Final = 2**63 - 1
_CHANGES: Final = "SELECT id, 0 AS number, time, event FROM audit"
_TRAFFIC: Final = "SELECT after_id, id, time, event FROM audit_traffic"
EVERY_EVENT: Final = f"{_CHANGES} UNION ALL {_TRAFFIC} ORDER BY 1, 2"
"""The query for the rows of both rings in the form that `stored` takes, the oldest first."""

Place = tuple[int, int]
"""The id of a change, and behind it the id of an event of traffic, or 0."""


class SqliteAudit:
    """The audit events of a store in one SQLite file; implements the port `AuditStore`."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Append the events in order, each to its ring, and delete all but the newest of both rings."""
        with self._transactions.writing(events):
            pass

    def list_newest(
        self, wanted: AuditFilter, *, before: str = "", limit: int = 100
    ) -> tuple[Sequence[StoredEvent], str]:
        """Return the events that match, the newest first, and the `before` of the next page.

        Reads at most 2,000 events. The `before` of the next page is empty if there are no more events. Raises
        ValueError if `before` is not an event id.
        """
        place = _place(before) if before else (_FURTHEST, 0)
        found: list[StoredEvent] = []
        looked_at, last = 0, ""
        with self._transactions.reading() as connection:
            rows = _rows(connection, "<", place, "DESC", MAX_LOOKED_AT, only_changes=wanted.is_about_changes)
            for row in rows:
                event = stored(row)
                looked_at, last = looked_at + 1, event.event_id
                if wanted.accepts(event):
                    found.append(event)
                    if len(found) == limit:
                        break
        more = looked_at == MAX_LOOKED_AT or len(found) == limit
        return found, last if more else ""

    def read_after(self, after: str | None, limit: int) -> Sequence[StoredEvent]:
        """Return the events after this one, the oldest first; None = the last event only.

        Raises ValueError if `after` is not an event id.
        """
        with self._transactions.reading() as connection:
            if after is None:
                return [stored(row) for row in _rows(connection, "<", (_FURTHEST, 0), "DESC", 1)]
            return [stored(row) for row in _rows(connection, ">", _place(after), "ASC", limit)]


def _rows(
    connection: sqlite3.Connection,
    comparison: str,
    place: Place,
    order: str,
    limit: int,
    *,
    only_changes: bool = False,
) -> sqlite3.Cursor:
    """Select at most `limit` rows on one side of a place, in the form that `stored` takes."""
    words = {"after_id": place[0], "number": place[1], "limit": limit}
    rings = f"{_CHANGES} WHERE (id, 0) {comparison} (:after_id, :number)"
    if not only_changes:
        rings += f" UNION ALL {_TRAFFIC} WHERE (after_id, id) {comparison} (:after_id, :number)"
    return connection.execute(f"{rings} ORDER BY 1 {order}, 2 {order} LIMIT :limit", words)


def stored(row: tuple[Any, ...]) -> StoredEvent:
    """Return the event of a row: the two numbers of its place, its time and its text."""
    change, number, time, text = row
    event_id = f"{change}-{number}" if number else str(change)
    return StoredEvent(event_id=event_id, time=moment(time), event=decode_event(text))


def _place(event_id: str) -> Place:
    """Return the place of an event id; an empty id is (0, 0), before all events."""
    if not event_id:
        return 0, 0
    found = _ID.fullmatch(event_id)
    if found is None:
        raise ValueError("not an event id")
    return int(found[1]), int(found[2] or 0)
