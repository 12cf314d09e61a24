"""The items of a copy as rows. Every function runs inside the single transaction of a copy."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, Final

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
from identity_service.domain.log import Marks, Revision, SessionEnded, TokenDenied
from identity_service.domain.sessions import Session
from identity_service.storage.codec import encode_marks, encode_session, seconds
from identity_service.storage.sqlite import records
from identity_service.storage.sqlite.transactions import forget_oldest_events, insert_event

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


def _session_row(session: Session) -> tuple[object, ...]:
    expire = seconds(session.expire_time)
    return session.session_id, expire, session.subject, session.client_id, encode_session(session)


_ROWS: Final[Sequence[tuple[type[Any], str, Callable[[Any], tuple[object, ...]]]]] = (
    (CopiedGeneration, _RAISE, lambda i: (i.principal, i.generation.number, i.generation.link)),
    (TokenDenied, _DENY, lambda i: (i.token_id, seconds(i.deny_until))),
    (SessionEnded, _END, lambda i: (i.session_id, seconds(i.deny_until), seconds(i.end_until))),
    (CopiedUse, _USE, lambda i: (i.key, seconds(i.until))),
    (CopiedSession, _SESSION, lambda i: _session_row(i.session)),
)
"""The statements for items whose order does not matter, each with the function that makes its values."""


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
                    # If the name of another record goes to this one, the other was changed during the copy,
                    # and comes again later in the copy.
                    revision = Revision(epoch=epoch, position=0, link=NO_LINK)
                    records.write(connection, item.record, revision)
                case RecordDeleted():
                    records.remove(connection, item.kind, item.id)
                case _:
                    pass
    forget_oldest_events(connection, keep_events)
    connection.execute(
        "INSERT INTO log_head (one, epoch, position, link, retention, raised, complete, lifetime, session,"
        " leeway, time, latest)"
        " VALUES (1, ?, 0, ?, ?, (SELECT count(*) FROM generations), 0, ?, ?, ?, ?, ?)",
        (epoch, NO_LINK, retention.total_seconds(), *encode_marks(marks)),
    )


def _write_rows(connection: sqlite3.Connection, chunk: Sequence[CopiedItem]) -> None:
    """Write the items whose order does not matter, and the audit events in their order."""
    for kind, statement, row_of in _ROWS:
        connection.executemany(statement, [row_of(item) for item in chunk if isinstance(item, kind)])
    for item in chunk:
        if isinstance(item, CopiedEvent):
            insert_event(connection, item.event.event, item.event.time)
