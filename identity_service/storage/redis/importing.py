"""Writing the items of a copy into keys: many with each call of a script, and the head last.

This module does not know where the items come from.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
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
from identity_service.domain.errors import NotConfirmedError, StoreUnavailableError
from identity_service.domain.ids import Epoch, new_link
from identity_service.domain.log import Marks, RecordKind, SessionEnded, TokenDenied
from identity_service.domain.records import kind_of
from identity_service.domain.sessions import Session
from identity_service.storage.codec import dumps, encode_marks, encode_session
from identity_service.storage.record_codec import encode_record, names_of
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.audit import event_words
from identity_service.storage.redis.client.connection import RedisConnection
from identity_service.storage.redis.keyspace import seconds_text, time_text

_ITEMS: Final = 500
"""The number of items in one call of a script, so that it blocks the server for a few milliseconds at
most."""
_BYTES: Final = 1_000_000
"""The number of characters of arguments after which a call gets no further item."""
_THREADS: Final = 16
"""The number of threads that write sessions in a cluster, where each session is a call of its own."""

Words = Sequence[str | int]


class Import:
    """The writer of one copy into one store, which has no head until `finish`."""

    def __init__(self, connection: RedisConnection, epoch: Epoch, keep_events: RingSizes) -> None:
        self._connection = connection
        self._epoch = epoch
        self._keep_events = keep_events
        self._marks, self._retention = Marks(), timedelta(0)
        self._last: dict[object, Session] = {}
        """The session that was written last on each server, by the object that identifies the server."""

    def begin(self, *, replace: bool) -> None:
        """Set the mark of the copy in place of the head, and with `replace` delete all other keys.

        Raises AlreadyExistsError if the store holds data and `replace` is False; StoreUnavailableError.
        """
        found = [keys.HEAD, keys.COPY, keys.OLD_HEAD, keys.LOG, keys.GENERATIONS, keys.index(RecordKind.KEY)]
        with _translate_unconfirmed():
            self._connection.run(
                "begin_copy", found, [self._epoch, int(replace), keys.OLD_HEAD_TEXT], durable=True
            )
        if replace:
            clear(self._connection, self._epoch)

    def write(self, items: Iterable[CopiedItem]) -> None:
        """Write all items.

        Raises StoreReplacedError if another copy has begun meanwhile; StoreUnavailableError; and the errors
        that iterating over `items` raises.
        """
        spread = self._connection.is_spread
        words: list[str | int] = []
        sessions: list[Session] = []
        count = size = 0
        for item in items:
            match item:
                case CopiedMarks():
                    self._marks = self._marks.merged(item.marks)
                    self._retention = max(self._retention, item.retention)
                    continue
                case CopiedSession(session=session) if spread:
                    sessions.append(session)
                    added: Words = ()
                case _:
                    added = _words(item)
            if isinstance(item, CopiedSession):
                added = (*added, *_list_words(item.session))
            words += added
            count, size = count + 1, size + sum(len(word) for word in added if isinstance(word, str))
            if count >= _ITEMS or size >= _BYTES:
                self._write_items(words)
                self._write_sessions(sessions)
                words, sessions, count, size = [], [], 0, 0
        self._write_items(words)
        self._write_sessions(sessions)

    def finish(self) -> None:
        """Write the head. Its confirmation covers all earlier writes on its server.

        Raises StoreReplacedError if another copy has begun meanwhile; StoreUnavailableError;
        NotConfirmedError if the head was written, perhaps not durably.
        """
        with _translate_unconfirmed():
            # Written again: the confirmation also covers what was written before on the same server.
            for session in self._last.values():
                self._write_session(session, durable=True)
        numbers = (self._retention.total_seconds(), *encode_marks(self._marks))
        self._connection.run(
            "finish_copy",
            [keys.HEAD, keys.COPY, keys.GENERATIONS, keys.OLD_HEAD],
            [self._epoch, keys.OLD_HEAD_TEXT, *map(seconds_text, numbers)],
            durable=True,
        )

    def _write_items(self, words: Words) -> None:
        if words:
            prefixes = (keys.DENIALS, keys.ENDS, keys.ALL, keys.USED, keys.LISTS, keys.INDEXES)
            keep = self._keep_events
            places: Words = (self._epoch, *prefixes, keys.GENERATIONS, keep.changes, keep.traffic)
            self._connection.run("import_items", [keys.HEAD, keys.COPY], [*places, *words])

    def _write_sessions(self, sessions: Sequence[Session]) -> None:
        if not sessions:
            return
        with ThreadPoolExecutor(_THREADS) as threads:
            for _ in threads.map(self._write_session, sessions):
                pass
        for session in sessions:
            self._last[self._connection.owner(keys.session(session.session_id))] = session

    def _write_session(self, session: Session, *, durable: bool = False) -> None:
        _, key, *words = _session_words(session)
        self._connection.run("import_session", [str(key)], words, durable=durable)


def clear(connection: RedisConnection, name: str) -> None:
    """Delete every key of this service except `{idn}:copy` and `{idn}:head`, while the mark has this name.

    Raises StoreReplacedError if another copy has begun, or was finished; StoreUnavailableError.
    """
    guard = [keys.COPY, keys.HEAD]
    for number, each in enumerate(connection.servers()):
        with each as server:
            if number == 0:
                for _ in server.scan("clear_keys", guard, keys.ALL, name, keys.COPY, keys.OLD_HEAD):
                    pass
            for _ in server.scan("clear_keys", [] if connection.is_spread else guard, keys.SESSIONS, name):
                pass


@contextmanager
def _translate_unconfirmed() -> Iterator[None]:
    """Raise StoreUnavailableError for a NotConfirmedError: a copy without a head has no effect yet."""
    try:
        yield
    except NotConfirmedError as error:
        raise StoreUnavailableError(f"the copy cannot be written: {error}") from error


def _words(item: CopiedItem) -> Words:
    """Return an item as `import_items.lua` takes it."""
    match item:
        case CopiedGeneration(principal=principal, generation=generation):
            return "gen", principal, generation.number, generation.link, new_link()
        case TokenDenied(token_id=token_id, deny_until=until):
            return "deny", token_id, time_text(until)
        case SessionEnded(session_id=session_id):
            return "end", session_id, time_text(item.deny_until), time_text(item.end_until)
        case CopiedRecord(record=record):
            kind = kind_of(type(record))
            return "record", kind, record.id, encode_record(record), dumps(names_of(record)), keys.names(kind)
        case RecordDeleted(kind=kind, id=id_):
            return "gone", kind, id_, keys.names(kind)
        case CopiedUse(key=name, until=until):
            return "use", name, time_text(until)
        case CopiedSession(session=session):
            return _session_words(session)
        case CopiedEvent(event=stored):
            ring, text = event_words(stored.event)
            return "event", ring, time_text(stored.time), text
        case CopiedMarks():
            return ()


def _session_words(session: Session) -> Words:
    key, expire = keys.session(session.session_id), time_text(session.expire_time)
    return "session", key, encode_session(session), expire, session.subject, session.client_id


def _list_words(session: Session) -> Words:
    """Return the items that put a session into the lists of its subject and its client."""
    words: list[str | int] = []
    for principal in sorted({session.subject, session.client_id}):
        words += ["list", principal, session.session_id, time_text(session.expire_time)]
    return words
