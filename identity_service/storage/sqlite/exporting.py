"""The rows of one snapshot of a store as the items of a copy. The module knows no file."""

from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Final

from identity_service.domain.copying import (
    CopiedEvent,
    CopiedGeneration,
    CopiedItem,
    CopiedMarks,
    CopiedRecord,
    CopiedSession,
    CopiedUse,
)
from identity_service.domain.ids import Link, PrincipalId
from identity_service.domain.log import Generation, Head, LogEntry
from identity_service.domain.records import RECORD_TYPES
from identity_service.storage.codec import decode_session, moment, reading, seconds
from identity_service.storage.record_codec import decode_record
from identity_service.storage.sqlite import audit, log, rebuilding
from identity_service.storage.sqlite.snapshot import Snapshot
from identity_service.storage.sqlite.transactions import read_head
from identity_service.storage.whole_log import require_copyable, revocations_in

_PAGE: Final = 1000


def head_to_copy(snapshot: Snapshot, now: datetime) -> Head:
    """Return the head of the snapshot.

    Raises StoreUninitializedError; StoreDamagedError if the log lacks entries that the store knows of.
    """
    with snapshot.held() as connection:
        head = read_head(connection, now)
        head = replace(head, whole=log.holds_what_it_counts(connection))
    return require_copyable(head)


def items(snapshot: Snapshot, head: Head, *, whole: bool) -> Generator[CopiedItem, None, None]:
    """Yield every item of the snapshot, a page of rows at a time."""
    yield CopiedMarks(marks=head.marks, retention=head.retention)
    for principal, number, link in snapshot.rows("SELECT principal, number, link FROM generations"):
        with reading(f"generations, {principal}"):
            generation = Generation(number=int(number), link=Link(link))
        yield CopiedGeneration(principal=PrincipalId(principal), generation=generation)
    yield from revocations_in(_entries(snapshot))
    for columns, fact_of in rebuilding.STATE:
        for row in snapshot.rows(f"SELECT {columns}"):
            yield fact_of(*row)
    for kind, record_type in RECORD_TYPES.items():
        for id_, value in snapshot.rows("SELECT id, value FROM records WHERE kind = ?", kind):
            with reading(f"records, {kind} {id_}"):
                record = decode_record(record_type, value)
            yield CopiedRecord(record=record)
    for key, until in snapshot.rows("SELECT id, expire_time FROM used"):
        yield CopiedUse(key=key, until=moment(until))
    if whole:
        yield from _sessions(snapshot, head.time)
        for row in snapshot.rows(audit.EVERY_EVENT):
            with reading(f"audit or audit_traffic, event {row[0]}-{row[1]}"):
                event = audit.stored(row)
            yield CopiedEvent(event=event)


def _entries(snapshot: Snapshot) -> Iterator[LogEntry]:
    """Yield the entries of the log, a page at a time."""
    after = 0
    while True:
        with snapshot.held() as connection:
            page = log.read_entries(connection, after, _PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].position


def _sessions(snapshot: Snapshot, now: datetime) -> Iterator[CopiedItem]:
    """Yield the sessions that are live at `now`."""
    rows = snapshot.rows(
        "SELECT id, value FROM sessions WHERE expire_time > ? AND NOT sessions.ended"
        " AND NOT EXISTS (SELECT 1 FROM ended WHERE ended.id = sessions.id AND ended.end_until > ?)",
        seconds(now),
        seconds(now),
    )
    for id_, value in rows:
        with reading(f"sessions, {id_}"):
            session = decode_session(value)
        yield CopiedSession(session=session)
