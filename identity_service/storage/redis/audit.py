"""Audit events on Redis: a stream of changes and a stream of traffic. Each keeps its newest entries.

The event of a change is written by the script that makes the change. The id of an event is that of its stream
entry. The scripts assign ids, each above every id in either stream, so that both streams are read as one
sequence. Ids only grow, but after a loss of the streams they may restart below the last id that a reader has
seen: the reader then gets nothing until new ids are above it, unless it reads from the beginning. An event is
stored twice if its change was sent again because the first answer was lost.
"""

import re
from collections.abc import Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final

from identity_service.domain.audit import (
    MAX_LOOKED_AT,
    AuditEvent,
    AuditFilter,
    AuditKind,
    RingSizes,
    StoredEvent,
)
from identity_service.storage.codec import decode_event, encode_event
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.connection import RedisConnection
from identity_service.storage.redis.keyspace import Writer, time_of

_ID: Final = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")
_PAGE: Final = 500
_RINGS: Final = (keys.AUDIT, keys.AUDIT_TRAFFIC)


class RedisAudit:
    """The audit events of a store on Redis, implementing the port `AuditStore`."""

    def __init__(self, connection: RedisConnection, writer: Writer, keep: RingSizes) -> None:
        self._connection = connection
        self._writer = writer
        self._keep = keep

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Append events that record no change of their own, each to the stream of its kind, in one step."""
        if events:
            words = [word for event in events for word in event_words(event)]
            self._connection.run(
                "append_audit",
                [*_RINGS, keys.HEAD],
                [self._writer.now(), self._keep.changes, self._keep.traffic, *words],
                repeatable=False,
            )

    def list_newest(
        self, wanted: AuditFilter, *, before: str = "", limit: int = 100
    ) -> tuple[Sequence[StoredEvent], str]:
        """Return events that pass the filter, the newest first, and the id before which the next page begins.

        Only events before the id `before` count; "" = all. The returned id is "" at the end. A page may be
        short: at most `MAX_LOOKED_AT` events are read. Raises ValueError if `before` is not an event id.
        """
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
        """Return at most `limit` events after the id `after`, the oldest first; None = the last event alone.

        Raises ValueError if `after` is not an event id; "" reads from the beginning.
        """
        if after is None:
            return self._read("XREVRANGE", "+", "-", 1)
        return self._read("XRANGE", f"({_checked(after)}" if after else "-", "+", limit)

    def _read(
        self, command: str, begin: str, end: str, count: int, rings: Sequence[str] = _RINGS
    ) -> Sequence[StoredEvent]:
        """Return the next `count` events of these streams, merged by id.

        The script reads `count` events of each stream, so that the merged sequence has no gap.
        """
        found: list[list[Any]] = self._connection.run("read_audit", rings, [command, begin, end, count])
        rows = merge(*found, key=lambda row: _place(row[0]), reverse=command == "XREVRANGE")
        return [
            _stored(id_, dict(zip(flat[::2], flat[1::2], strict=True))) for id_, flat in islice(rows, count)
        ]


def event_words(event: AuditEvent) -> tuple[str, str]:
    """Return an event in the form that scripts take: the number of its stream, and the event as JSON."""
    return "1" if event.type.kind is AuditKind.CHANGE else "2", encode_event(event)


def _place(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number)


def _stored(id_: str, fields: dict[str, str]) -> StoredEvent:
    return StoredEvent(event_id=id_, time=time_of(fields["time"]), event=decode_event(fields["event"]))


def _checked(event_id: str) -> str:
    """Return the event id unchanged. Raises ValueError if it is neither an event id nor empty."""
    if event_id and not _ID.fullmatch(event_id):
        raise ValueError("not an event id")
    return event_id
