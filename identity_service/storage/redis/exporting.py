"""Reading a whole store as the items of a copy while processes write to it.

A scan finds every key that exists during the whole scan, and any part of the changes that are made meanwhile.
So the log is read next, from the position at which the scan began, and with each entry the record that it
changed, in the same atomic step. The last step finds no more entries, and the items yielded by then are the
state at its position.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import Final

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
from identity_service.domain.errors import StoreReplacedError, StoreUnavailableError
from identity_service.domain.ids import PrincipalId, SessionId, TokenId
from identity_service.domain.log import (
    Generation,
    GenerationRaised,
    Head,
    LogEntry,
    LogPage,
    RecordChanged,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.records import RECORD_TYPES
from identity_service.domain.store import all_records
from identity_service.storage.codec import decode_session, reading
from identity_service.storage.record_codec import decode_record
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.audit import RedisAudit
from identity_service.storage.redis.client.connection import RedisConnection
from identity_service.storage.redis.keyspace import Writer, time_of
from identity_service.storage.redis.log import RedisLog, entries_of, head_of
from identity_service.storage.redis.records import RedisRecords
from identity_service.storage.whole_log import revocations_in

_PAGE: Final = 500
_PASSES: Final = 100
"""The largest number of passes. A pass reads the log up to the end that it had when the pass began; the
export is finished when the log has no more entries after a pass, and fails after this many passes."""
_REPLACED: Final = "the store's change log was replaced while it was copied: begin again"


class Export:
    """A reader of a whole store."""

    def __init__(
        self,
        connection: RedisConnection,
        writer: Writer,
        log: RedisLog,
        records: RedisRecords,
        audit: RedisAudit,
    ) -> None:
        self._connection = connection
        self._writer = writer
        self._log = log
        self._records = records
        self._audit = audit

    def items(self, head: Head, *, whole: bool) -> Generator[CopiedItem, None, None]:
        """Yield every item that the store held at this head, and later changes; see `CopySource.export`."""
        yield _marks_of(head)
        for principal, generation in self._log.generations().items():
            yield CopiedGeneration(principal=principal, generation=generation)
        yield from revocations_in(self._entries(head))
        yield from self._texts()
        yield from self._directory()
        if whole:
            yield from self._sessions()
            yield from self._events()
        yield from self._changes_since(head)

    def _entries(self, head: Head) -> Iterator[LogEntry]:
        """Yield the log entries up to this head. Those that are trimmed meanwhile have no effect any more."""
        position = head.floor
        while position < head.position and (page := self._log.read_entries(position, _PAGE)):
            yield from page
            position = page[-1].position

    def _texts(self) -> Iterator[CopiedItem]:
        """Yield the denials, the ended sessions, and the uses of values that work only once."""
        with self._connection.servers()[0] as server:
            for prefix in (keys.DENIALS, keys.ENDS, keys.USED):
                for found in server.scan("scan_texts", [keys.HEAD], prefix):
                    for key, text in zip(found[::2], found[1::2], strict=True):
                        with reading(key):
                            item = _text_item(prefix, key.removeprefix(prefix), text)
                        yield item

    def _directory(self) -> Iterator[CopiedItem]:
        for kind in RECORD_TYPES.values():
            for found in all_records(self._records, kind, page_size=_PAGE):
                yield CopiedRecord(record=found.record)

    def _sessions(self) -> Iterator[CopiedItem]:
        for each in self._connection.servers():
            with each as server:
                for found in server.scan("scan_sessions", [], keys.SESSIONS, self._writer.now()):
                    yield from self._living(found[::2], found[1::2])

    def _living(self, names: Sequence[str], values: Sequence[str]) -> Iterator[CopiedItem]:
        """Yield those of these sessions that have not ended, by the keys of ended sessions.

        In a cluster the mark on the record of an ended session may be missing.
        """
        sessions = []
        for key, value in zip(names, values, strict=True):
            with reading(key):
                sessions.append(decode_session(value))
        if not sessions:
            return
        ends = self._connection.command("MGET", *(keys.ended(session.session_id) for session in sessions))
        for session, end in zip(sessions, ends, strict=True):
            if end is None:
                yield CopiedSession(session=session)

    def _events(self) -> Iterator[CopiedItem]:
        after = ""
        while page := self._audit.read_after(after, _PAGE):
            for event in page:
                yield CopiedEvent(event=event)
            after = page[-1].event_id

    # Changes that were made during the scan.

    def _changes_since(self, head: Head) -> Iterator[CopiedItem]:
        """Yield the changes of the log from this head on, until its end is reached.

        Raises StoreReplacedError if the log is not a continuation of the one with this head, and
        StoreUnavailableError if its end is not reached in 100 passes.
        """
        position, link = head.position, head.link
        for _ in range(_PASSES):
            goal: int | None = None
            while goal is None or position < goal:
                page, values = self._read_changes(position)
                goal = page.head.position if goal is None else goal
                if page.head.epoch != head.epoch or page.head.floor > position:
                    raise StoreReplacedError(_REPLACED)
                for entry, value in zip(page.entries, values, strict=True):
                    if (entry.position, entry.previous_link) != (position + 1, link):
                        raise StoreReplacedError(_REPLACED)
                    position, link = entry.position, entry.link
                    yield _changed(entry, value)
                if (position, link) == (page.head.position, page.head.link):
                    yield _marks_of(page.head)
                    return
                if not page.entries:
                    raise StoreReplacedError(_REPLACED)
        raise StoreUnavailableError("the store changes faster than it can be copied: try again later")

    def _read_changes(self, after: int) -> tuple[LogPage, Sequence[str]]:
        head, entries, values = self._connection.run(
            "read_changes", [keys.HEAD, keys.LOG], [self._writer.now(), after, _PAGE, keys.ALL]
        )
        return LogPage(entries=entries_of(entries), head=head_of(*head)), values


def _marks_of(head: Head) -> CopiedMarks:
    return CopiedMarks(marks=head.marks, retention=head.retention)


def _text_item(prefix: str, name: str, text: str) -> CopiedItem:
    until, *rest = text.split(" ")
    if prefix == keys.DENIALS:
        return TokenDenied(token_id=TokenId(name), deny_until=time_of(until))
    if prefix == keys.ENDS:
        return SessionEnded(session_id=SessionId(name), deny_until=time_of(until), end_until=time_of(rest[0]))
    return CopiedUse(key=name, until=time_of(until))


def _changed(entry: LogEntry, value: str) -> CopiedItem:
    """Return the change of an entry as an item; `value` is the current JSON of the record that it changed."""
    match entry.change:
        case TokenDenied() | SessionEnded():
            return entry.change
        case GenerationRaised(principal=principal, number=number, origin=origin):
            generation = Generation(number=number, link=origin or entry.link)
            return CopiedGeneration(principal=PrincipalId(principal), generation=generation)
        case RecordChanged(kind=kind, id=id_):
            if not value:
                return RecordDeleted(kind=kind, id=id_)
            with reading(keys.record(kind, id_)):
                return CopiedRecord(record=decode_record(RECORD_TYPES[kind], value))
