"""Audit events on Redis: two streams whose newest entries are kept. Events of a change come with its script.

Ids are those of the streams. Scripts give them out, each above every id in either stream, so both are read
as one sequence. They only grow, but if the streams were lost they may begin again below what a reader has
seen: it then sees nothing until they have passed that, or asks from the beginning. An event is there twice if
its change was sent again because the first answer was lost.
"""

import re
from collections.abc import Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final

from identity_service.domain.audit import AuditEvent, AuditFilter, AuditKind, StoredEvent
from identity_service.storage.audit_codec import MAX_LOOKED_AT, RingSizes, decode_event, encode_event
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.connection import Connection
from identity_service.storage.redis.values import time_of
from identity_service.storage.redis.writing import Writing

_ID: Final = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")
_PAGE: Final = 500
_RINGS: Final = (keys.AUDIT, keys.AUDIT_TRAFFIC)


class AuditLog:
    """The part of the port `Store` that is about audit events."""

    def __init__(self, connection: Connection, writing: Writing, keep: RingSizes) -> None:
        self._connection = connection
        self._writing = writing
        self._keep = keep

    def words(self, event: AuditEvent | None) -> tuple[list[str], list[str | int]]:
        """The key and arguments that come behind all others of a script which records its change."""
        if event is None:
            return [], []
        return [keys.AUDIT], [self._writing.now(), self._keep.changes, encode_event(event)]

    def append(self, events: Sequence[AuditEvent]) -> None:
        if events:
            words = [word for event in events for word in event_words(event)]
            self._connection.run(
                "append_audit",
                [*_RINGS, keys.HEAD],
                [self._writing.now(), self._keep.changes, self._keep.traffic, *words],
                repeatable=False,
            )

    def list_newest(self, wanted: AuditFilter, before: str, limit: int) -> tuple[Sequence[StoredEvent], str]:
        found: list[StoredEvent] = []
        last = _checked(before)
        rings = _RINGS[:1] if wanted.is_about_changes else _RINGS
        for _ in range(MAX_LOOKED_AT // _PAGE):
            page = self._read("XREVRANGE", f"({last}" if last else "+", "-", _PAGE, rings)
            for stored in page:
                last = stored.event_id
                if wanted.accepts(stored):
                    found.append(stored)
                    if len(found) == limit:
                        return found, last
            if len(page) < _PAGE:
                return found, ""
        return found, last

    def read_after(self, after: str | None, limit: int) -> Sequence[StoredEvent]:
        if after is None:
            return self._read("XREVRANGE", "+", "-", 1)
        return self._read("XRANGE", f"({_checked(after)}" if after else "-", "+", limit)

    def _read(
        self, command: str, begin: str, end: str, count: int, rings: Sequence[str] = _RINGS
    ) -> Sequence[StoredEvent]:
        """The next `count` events of these streams together; reading each of them gives at least as many."""
        found: list[list[Any]] = self._connection.run("read_audit", rings, [command, begin, end, count])
        rows = merge(*found, key=lambda row: _place(row[0]), reverse=command == "XREVRANGE")
        return [
            _stored(id_, dict(zip(flat[::2], flat[1::2], strict=True))) for id_, flat in islice(rows, count)
        ]


def event_words(event: AuditEvent) -> tuple[str, str]:
    """How scripts take an event: the number of the stream of its kind, and the event as text."""
    return "1" if event.kind is AuditKind.CHANGE else "2", encode_event(event)


def _place(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number)


def _stored(id_: str, fields: dict[str, str]) -> StoredEvent:
    return StoredEvent(event_id=id_, time=time_of(fields["time"]), event=decode_event(fields["event"]))


def _checked(event_id: str) -> str:
    """Raises ValueError if it is no event id."""
    if event_id and not _ID.fullmatch(event_id):
        raise ValueError("not an event id")
    return event_id
