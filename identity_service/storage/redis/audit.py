"""Audit events on Redis: a stream whose newest entries are kept. Events of a change come with its script.

Ids are those of the stream. They only grow, but where the stream was lost they may begin again below what a
reader has seen: it then sees nothing until they have passed that, or asks from the beginning. An event is
there twice where its change was sent again because the first answer was lost.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from identity_service.domain.audit import AuditEvent, AuditFilter, StoredEvent
from identity_service.storage.audit_codec import MAX_LOOKED_AT, decode_event, encode_event
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.connection import Connection
from identity_service.storage.redis.values import time_of
from identity_service.storage.redis.writing import Writing

_ID: Final = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")
_PAGE: Final = 500


class AuditLog:
    """The part of the port `Store` that is about audit events."""

    def __init__(self, connection: Connection, writing: Writing, keep: int) -> None:
        self._connection = connection
        self._writing = writing
        self._keep = keep

    def words(self, event: AuditEvent | None) -> tuple[list[str], list[str | int]]:
        """The keys and arguments that come behind all others of a script which records its change."""
        if event is None:
            return [], []
        return [keys.AUDIT], [self._writing.now(), self._keep, encode_event(event)]

    def append(self, events: Sequence[AuditEvent]) -> None:
        if events:
            texts = [encode_event(event) for event in events]
            self._connection.run(
                "append_audit",
                [keys.AUDIT, keys.HEAD],
                [self._writing.now(), self._keep, *texts],
                repeatable=False,
            )

    def list_newest(self, wanted: AuditFilter, before: str, limit: int) -> tuple[Sequence[StoredEvent], str]:
        found: list[StoredEvent] = []
        last = _checked(before)
        for _ in range(MAX_LOOKED_AT // _PAGE):
            page = self._read("XREVRANGE", f"({last}" if last else "+", "-", _PAGE)
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

    def _read(self, command: str, begin: str, end: str, count: int) -> Sequence[StoredEvent]:
        rows: list[Any] = self._connection.command(command, keys.AUDIT, begin, end, "COUNT", count)
        return [_stored(id_, dict(zip(flat[::2], flat[1::2], strict=True))) for id_, flat in rows]


def _stored(id_: str, fields: dict[str, str]) -> StoredEvent:
    return StoredEvent(event_id=id_, time=time_of(fields["time"]), event=decode_event(fields["event"]))


def _checked(event_id: str) -> str:
    """Raises ValueError for what is no event id."""
    if event_id and not _ID.fullmatch(event_id):
        raise ValueError("not an event id")
    return event_id
