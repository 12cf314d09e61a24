"""Audit events as rows, the newest of which are kept. Runs inside a transaction that somebody else owns."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from identity_service.domain.audit import AuditEvent, AuditFilter, StoredEvent
from identity_service.storage.audit_codec import MAX_LOOKED_AT, decode_event, encode_event
from identity_service.storage.codec import moment, seconds


def append(connection: sqlite3.Connection, events: Sequence[AuditEvent], now: datetime, keep: int) -> None:
    """Append in order, and forget all but the last `keep`."""
    last = 0
    for event in events:
        cursor = connection.execute(
            "INSERT INTO audit (time, event) VALUES (?, ?)", (seconds(now), encode_event(event))
        )
        last = int(cursor.lastrowid or 0)
    connection.execute("DELETE FROM audit WHERE id <= ?", (last - keep,))


def list_newest(
    connection: sqlite3.Connection, wanted: AuditFilter, before: str, limit: int
) -> tuple[Sequence[StoredEvent], str]:
    """Raises ValueError for what is no event id."""
    rows = connection.execute(
        "SELECT id, time, event FROM audit WHERE ? = 0 OR id < ? ORDER BY id DESC LIMIT ?",
        (_place(before), _place(before), MAX_LOOKED_AT),
    )
    found: list[StoredEvent] = []
    looked_at, last = 0, 0
    for row in rows:
        looked_at, last = looked_at + 1, row[0]
        event = stored(row)
        if wanted.accepts(event):
            found.append(event)
            if len(found) == limit:
                break
    more = looked_at == MAX_LOOKED_AT or len(found) == limit
    return found, str(last) if more else ""


def read_after(connection: sqlite3.Connection, after: str | None, limit: int) -> Sequence[StoredEvent]:
    """Raises ValueError for what is no event id."""
    if after is None:
        rows = connection.execute("SELECT id, time, event FROM audit ORDER BY id DESC LIMIT 1")
    else:
        rows = connection.execute(
            "SELECT id, time, event FROM audit WHERE id > ? ORDER BY id LIMIT ?", (_place(after), limit)
        )
    return [stored(row) for row in rows]


def stored(row: tuple[Any, ...]) -> StoredEvent:
    """From the columns id, time and event."""
    id_, time, text = row
    return StoredEvent(event_id=str(id_), time=moment(time), event=decode_event(text))


def _place(event_id: str) -> int:
    """0 = before all."""
    if event_id and not (event_id.isascii() and event_id.isdecimal() and len(event_id) <= 18):
        raise ValueError("not an event id")
    return int(event_id or 0)
