"""The directory on Redis: clients, users, keys and trusted issuers as records with an etag.

This module does not know sessions.
"""

from collections.abc import Sequence
from typing import Final

from identity_service.domain.audit import AuditEvent
from identity_service.domain.ids import Link, PrincipalId, new_link
from identity_service.domain.log import (
    Appended,
    Change,
    GenerationRaised,
    RecordChanged,
    RecordKind,
    Revision,
)
from identity_service.domain.principals import Client
from identity_service.domain.store import Record, RecordT, Versioned, kind_of
from identity_service.storage.change_codec import encode_change
from identity_service.storage.codec import (
    decode_record,
    dumps,
    encode_record,
    names_of,
)
from identity_service.storage.damage import reading
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.audit import AuditLog
from identity_service.storage.redis.client.connection import Connection
from identity_service.storage.redis.values import raise_prefix
from identity_service.storage.redis.writing import Writing, appended

_PRINCIPALS: Final = (RecordKind.CLIENT, RecordKind.USER)


class Records:
    """The records of a store on Redis: the part of the port `Store` that is about them."""

    def __init__(self, connection: Connection, writing: Writing, audit: AuditLog) -> None:
        self._connection = connection
        self._writing = writing
        self._audit = audit

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None:
        """Return a record by its id, or None."""
        key = keys.record(kind_of(kind), id_)
        with reading(key):
            return versioned(kind, *self._connection.command("HMGET", key, "value", "revision"))

    def list_records(self, kind: type[RecordT], *, after: str, limit: int) -> Sequence[Versioned[RecordT]]:
        """Return at most `limit` records of a kind with an id greater than `after`, ordered by id."""
        name = kind_of(kind)
        begin = f"({after}" if after else "-"
        rows = self._connection.run("list_records", [keys.index(name)], [keys.record(name, ""), begin, limit])
        with reading(keys.record(name, "…")):
            return [found for value, revision in rows if (found := versioned(kind, value, revision))]

    def find_client(self, certificate: str) -> Versioned[Client] | None:
        """Return the client that has this certificate name, or None."""
        client_id = self._connection.command("HGET", keys.names(RecordKind.CLIENT), certificate)
        found = self.get(Client, client_id) if client_id is not None else None
        # Between the two reads the certificate may have been moved to another client.
        return found if found is not None and certificate in found.record.certificates else None

    def create(self, record: Record, audit: AuditEvent | None) -> Appended:
        """Store a new record; an id that another user or client has counts as taken."""
        kind = kind_of(type(record))
        # Users and clients share one namespace: a generation belongs to an id, not to a kind.
        kinds = _PRINCIPALS if kind in _PRINCIPALS else (kind,)
        return self._write(
            record, expected=None, taken=[keys.record(k, record.id) for k in kinds], raising=None, audit=audit
        )

    def update(
        self,
        record: Record,
        *,
        expected: Revision,
        revoke: bool,
        above: int,
        link: Link | None,
        audit: AuditEvent | None,
    ) -> Appended:
        """Replace a record, and with `revoke` raise the generation of its principal in the same step."""
        raises = revoke and kind_of(type(record)) in _PRINCIPALS
        raising = (above, link or new_link()) if raises else None
        return self._write(record, expected=expected, taken=[], raising=raising, audit=audit)

    def delete(
        self,
        kind: RecordKind,
        id_: str,
        *,
        expected: Revision | None,
        above: int,
        link: Link | None,
        audit: AuditEvent | None,
    ) -> Appended:
        """Delete a record, and raise the generation of its principal, if it is one, in the same step."""
        epoch, now = self._writing.expected(), self._writing.now()
        changed, changed_link, raised = RecordChanged(kind=kind, id=id_), new_link(), link or new_link()
        raising: list[str | int] = [above, raise_prefix(id_), raised] if kind in _PRINCIPALS else []
        audit_keys, audit_words = self._audit.words(audit)
        position, *number = self._connection.run(
            "delete_record",
            [
                keys.HEAD,
                keys.LOG,
                keys.GENERATIONS,
                keys.record(kind, id_),
                keys.index(kind),
                keys.names(kind),
                *audit_keys,
            ],
            [
                epoch,
                now,
                id_,
                str(expected or ""),
                encode_change(changed),
                changed_link,
                *raising,
                *audit_words,
            ],
            repeatable=False,
            durable=True,
        )
        return appended(epoch, position, *_changes(changed, changed_link, number, raised))

    def _write(
        self,
        record: Record,
        *,
        expected: Revision | None,
        taken: list[str],
        raising: tuple[int, Link] | None,
        audit: AuditEvent | None,
    ) -> Appended:
        epoch, now = self._writing.expected(), self._writing.now()
        kind = kind_of(type(record))
        changed, link = RecordChanged(kind=kind, id=record.id), new_link()
        above, raised = raising or (None, new_link())
        audit_keys, audit_words = self._audit.words(audit)
        raise_words: list[str | int] = [] if above is None else [above, raise_prefix(record.id), raised]
        position, *number = self._connection.run(
            "write_record",
            [
                keys.HEAD,
                keys.LOG,
                keys.GENERATIONS,
                keys.record(kind, record.id),
                keys.index(kind),
                keys.names(kind),
                *taken,
                *audit_keys,
            ],
            [
                epoch,
                now,
                record.id,
                encode_record(record),
                dumps(names_of(record)),
                str(expected or ""),
                encode_change(changed),
                link,
                *raise_words,
                *audit_words,
            ],
            repeatable=False,
            durable=True,
        )
        return appended(epoch, position, *_changes(changed, link, number, raised))


def versioned(kind: type[RecordT], value: str | None, revision: str | None) -> Versioned[RecordT] | None:
    """Return a record from the JSON and the revision in its hash; None if either is absent."""
    if value is None or revision is None:
        return None
    return Versioned(record=decode_record(kind, value), revision=Revision.parse(revision))


def _changes(
    changed: RecordChanged, link: Link, number: Sequence[str | None], raised: Link
) -> list[tuple[Change, Link]]:
    """Return the change of the record, and the raised generation if the script raised one with it."""
    raises: list[tuple[Change, Link]] = [
        (GenerationRaised(principal=PrincipalId(changed.id), number=int(n)), raised)
        for n in number
        if n is not None
    ]
    return [(changed, link), *raises]
