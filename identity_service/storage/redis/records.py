"""The directory on Redis: clients, users, keys and trusted issuers as records with an etag.

This module does not know sessions.
"""

from collections.abc import Sequence
from dataclasses import replace
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
from identity_service.domain.principals import Client, User, normalize_username
from identity_service.domain.records import Record, RecordT, Versioned, kind_of
from identity_service.storage.codec import dumps, encode_change, reading
from identity_service.storage.record_codec import decode_record, encode_record, names_of
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.connection import RedisConnection
from identity_service.storage.redis.facts import prefix_of
from identity_service.storage.redis.keyspace import Writer, appended

_PRINCIPALS: Final = (RecordKind.CLIENT, RecordKind.USER)


class RedisRecords:
    """The records of a store on Redis, implementing the port `RecordStore`."""

    def __init__(self, connection: RedisConnection, writer: Writer) -> None:
        self._connection = connection
        self._writer = writer

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None:
        """Return a record by its id, or None."""
        key = keys.record(kind_of(kind), id_)
        with reading(key):
            return _versioned(kind, *self._connection.command("HMGET", key, "value", "revision"))

    def list_of(
        self, kind: type[RecordT], *, after: str = "", limit: int = 100
    ) -> Sequence[Versioned[RecordT]]:
        """Return at most `limit` records of a kind with an id greater than `after`, ordered by id."""
        name = kind_of(kind)
        begin = f"({after}" if after else "-"
        rows = self._connection.run("list_records", [keys.index(name)], [keys.record(name, ""), begin, limit])
        with reading(keys.record(name, "…")):
            return [found for value, revision in rows if (found := _versioned(kind, value, revision))]

    def find_user(self, username: str) -> Versioned[User] | None:
        """Return the user with this username, compared after `normalize_username`, or None."""
        return self._find(User, normalize_username(username))

    def find_client(self, certificate: str) -> Versioned[Client] | None:
        """Return the client that has this certificate name, or None."""
        return self._find(Client, certificate)

    def create(self, record: Record, *, audit: AuditEvent | None = None) -> Appended:
        """Store a new record; an id that another user or client has counts as taken."""
        kind = kind_of(type(record))
        # Users and clients share one namespace: a generation belongs to an id, not to a kind.
        kinds = _PRINCIPALS if kind in _PRINCIPALS else (kind,)
        taken = [keys.record(each, record.id) for each in kinds]
        return self._change("write_record", kind, record.id, _words_of(record), taken=taken, audit=audit)

    def update(
        self,
        record: Record,
        *,
        expected: Revision,
        revoke: bool = False,
        above: int = 0,
        link: Link | None = None,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Replace a record, and with `revoke` raise the generation of its principal in the same step."""
        kind, words = kind_of(type(record)), _words_of(record, expected)
        raising = (above, link or new_link()) if revoke and kind in _PRINCIPALS else None
        return self._change("write_record", kind, record.id, words, raising=raising, audit=audit)

    def delete(
        self,
        kind: RecordKind,
        id_: str,
        *,
        expected: Revision | None = None,
        above: int = 0,
        link: Link | None = None,
        audit: AuditEvent | None = None,
    ) -> Appended:
        """Delete a record, and raise the generation of its principal, if it is one, in the same step."""
        raising = (above, link or new_link()) if kind in _PRINCIPALS else None
        words = [id_, str(expected or "")]
        return self._change("delete_record", kind, id_, words, raising=raising, audit=audit)

    def _find(self, kind: type[RecordT], name: str) -> Versioned[RecordT] | None:
        id_ = self._connection.command("HGET", keys.names(kind_of(kind)), name)
        found = self.get(kind, id_) if id_ is not None else None
        # Between the two reads the name may have been moved to another record.
        return found if found is not None and name in names_of(found.record) else None

    def _change(
        self,
        script: str,
        kind: RecordKind,
        id_: str,
        words: list[str],
        *,
        taken: Sequence[str] = (),
        raising: tuple[int, Link] | None = None,
        audit: AuditEvent | None,
    ) -> Appended:
        """Run a script that changes a record.

        Args:
            script: the name of the script.
            kind: the kind of the record.
            id_: the id of the record.
            words: the arguments that only this script has.
            taken: the keys that must not exist.
            raising: the number above which the script raises the principal's generation, and the link of that
                entry; None = it raises nothing.
            audit: the event of the change.
        """
        changed, link = RecordChanged(kind=kind, id=id_), new_link()
        raised = GenerationRaised(principal=PrincipalId(id_), number=0)
        raise_words: list[str | int] = [] if raising is None else [raising[0], prefix_of(raised), raising[1]]
        epoch, (position, *numbers) = self._writer.mutate(
            script,
            [keys.record(kind, id_), keys.index(kind), keys.names(kind), *taken],
            [*words, encode_change(changed), link, *raise_words],
            audit=audit,
            repeatable=False,
        )
        changes: list[tuple[Change, Link]] = [(changed, link)]
        if raising is not None:
            changes.append((replace(raised, number=int(numbers[0])), raising[1]))
        return appended(epoch, position, *changes)


def _words_of(record: Record, expected: Revision | None = None) -> list[str]:
    """Return the arguments of `write_record.lua` for a record that has this revision; None = it is new."""
    return [record.id, encode_record(record), dumps(names_of(record)), str(expected or "")]


def _versioned(kind: type[RecordT], value: str | None, revision: str | None) -> Versioned[RecordT] | None:
    """Return a record from the JSON and the revision in its hash; None if either is absent."""
    if value is None or revision is None:
        return None
    return Versioned(record=decode_record(kind, value), revision=Revision.parse(revision))
