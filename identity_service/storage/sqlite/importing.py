"""The items of a copy as rows. Every function runs inside the single transaction of a copy."""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import islice
from typing import Final

from identity_service.domain.audit import RingSizes
from identity_service.domain.copying import (
    CopiedEvent,
    CopiedGeneration,
    CopiedItem,
    CopiedMarks,
    CopiedRecord,
    CopiedSession,
    CopiedUse,
    RecordDeleted,
)
from identity_service.domain.ids import NO_LINK, Epoch
from identity_service.domain.log import Marks, RecordKind, SessionEnded, TokenDenied
from identity_service.domain.records import Record, kind_of
from identity_service.domain.sessions import Session
from identity_service.storage.codec import encode_session, seconds
from identity_service.storage.record_codec import encode_record, names_of
from identity_service.storage.sqlite.transactions import forget_oldest_events, insert_event, kept_values

_CHUNK: Final = 1000
"""The number of items that are held in memory at a time."""
_STATE: Final = (
    "log_head", "log", "denied", "ended", "generations", "requests", "records", "names", "sessions", "used",
    "audit", "audit_traffic", "beats",
)  # fmt: skip
"""Every table of a store."""

_RAISE: Final = (
    "INSERT INTO generations (principal, number, link) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"
    " number = excluded.number + (excluded.number = number),"
    " link = iif(excluded.number = number, lower(hex(randomblob(8))), excluded.link)"
    " WHERE excluded.number > number OR (excluded.number = number AND excluded.link <> link)"
)
"""The statement that raises a generation. Two generations with the same number come from logs that diverged.
Neither may win, as in `facts.restore`: the next number with a new link is kept."""
_DENY: Final = (
    "INSERT INTO denied (id, deny_until, expire_time, position, link) VALUES (?1, ?2, ?2, 0, '')"
    " ON CONFLICT DO UPDATE SET deny_until = max(deny_until, excluded.deny_until),"
    " expire_time = max(expire_time, excluded.expire_time)"
)
"""The statement that inserts a denial. It gets position 0, where no entry is, so that a rebuild appends it to
the log."""
_END: Final = (
    "INSERT INTO ended (id, deny_until, end_until, expire_time, position, link)"
    " VALUES (?1, ?2, ?3, max(?2, ?3), 0, '') ON CONFLICT DO UPDATE SET"
    " deny_until = max(deny_until, excluded.deny_until), end_until = max(end_until, excluded.end_until),"
    " expire_time = max(expire_time, excluded.expire_time)"
)
_USE: Final = (
    "INSERT INTO used (id, expire_time) VALUES (?, ?)"
    " ON CONFLICT DO UPDATE SET expire_time = max(expire_time, excluded.expire_time)"
)
_SESSION: Final = (
    "INSERT OR REPLACE INTO sessions (id, version, expire_time, subject, client_id, value)"
    " VALUES (?, 1, ?, ?, ?, ?)"
)


def is_empty(connection: sqlite3.Connection) -> bool:
    """Return whether every table is empty."""
    return not any(
        connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608  # names from above
        for table in _STATE
    )


def delete_all(connection: sqlite3.Connection) -> None:
    """Delete all rows; the next log begins at position 1. The ids of audit events go on."""
    for table in _STATE:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608  # names from above
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'log'")


def write(
    connection: sqlite3.Connection, items: Iterable[CopiedItem], epoch: Epoch, keep_events: RingSizes
) -> None:
    """Write the items, then the head, which marks the log as incomplete until it is rebuilt."""
    marks, retention = Marks(), timedelta(0)
    remaining = iter(items)
    while chunk := list(islice(remaining, _CHUNK)):
        _write_rows(connection, chunk)
        for item in chunk:
            match item:
                case CopiedMarks():
                    marks, retention = marks.merged(item.marks), max(retention, item.retention)
                case CopiedRecord():
                    _write_record(connection, item.record, epoch)
                case RecordDeleted():
                    _delete_record(connection, item.kind, item.id)
                case _:
                    pass
    forget_oldest_events(connection, keep_events)
    connection.execute(
        "INSERT INTO log_head (one, epoch, position, link, retention, raised, complete, lifetime, session,"
        " leeway, time, latest)"
        " VALUES (1, ?, 0, ?, ?, (SELECT count(*) FROM generations), 0, ?, ?, ?, ?, ?)",
        (epoch, NO_LINK, *kept_values(retention, marks)),
    )


def _write_rows(connection: sqlite3.Connection, chunk: Sequence[CopiedItem]) -> None:
    """Write the items whose order does not matter, and the audit events in their order."""
    connection.executemany(
        _RAISE,
        [
            (i.principal, i.generation.number, i.generation.link)
            for i in chunk
            if isinstance(i, CopiedGeneration)
        ],
    )
    connection.executemany(
        _DENY, [(i.token_id, seconds(i.deny_until)) for i in chunk if isinstance(i, TokenDenied)]
    )
    connection.executemany(
        _END,
        [
            (i.session_id, seconds(i.deny_until), seconds(i.end_until))
            for i in chunk
            if isinstance(i, SessionEnded)
        ],
    )
    connection.executemany(_USE, [(i.key, seconds(i.until)) for i in chunk if isinstance(i, CopiedUse)])
    connection.executemany(_SESSION, [_session_row(i.session) for i in chunk if isinstance(i, CopiedSession)])
    for item in chunk:
        if isinstance(item, CopiedEvent):
            insert_event(connection, item.event.event, item.event.time)


def _session_row(session: Session) -> tuple[object, ...]:
    expire = seconds(session.expire_time)
    return session.session_id, expire, session.subject, session.client_id, encode_session(session)


def _write_record(connection: sqlite3.Connection, record: Record, epoch: Epoch) -> None:
    """Insert or replace a record.

    If another record has one of its names, the name goes to this record: the other one was changed during the
    copy, and comes again later in the copy.
    """
    kind = kind_of(type(record))
    connection.execute(
        "INSERT OR REPLACE INTO records (kind, id, value, epoch, position, link) VALUES (?, ?, ?, ?, 0, ?)",
        (kind, record.id, encode_record(record), epoch, NO_LINK),
    )
    connection.execute("DELETE FROM names WHERE kind = ? AND id = ?", (kind, record.id))
    connection.executemany(
        "INSERT OR REPLACE INTO names (kind, name, id) VALUES (?, ?, ?)",
        [(kind, name, record.id) for name in names_of(record)],
    )


def _delete_record(connection: sqlite3.Connection, kind: RecordKind, id_: str) -> None:
    connection.execute("DELETE FROM records WHERE kind = ? AND id = ?", (kind, id_))
    connection.execute("DELETE FROM names WHERE kind = ? AND id = ?", (kind, id_))
