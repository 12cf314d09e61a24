"""Records of the directory as rows. Every function runs inside a transaction of the caller."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from identity_service.domain.audit import AuditEvent
from identity_service.domain.errors import AlreadyExistsError, NotFoundError, StaleEtagError
from identity_service.domain.ids import Epoch, Link, PrincipalId
from identity_service.domain.log import Appended, RecordChanged, RecordKind, Revision
from identity_service.domain.principals import Client, User, normalize_username
from identity_service.domain.records import Record, RecordT, Versioned, kind_of
from identity_service.storage.codec import reading
from identity_service.storage.record_codec import decode_record, encode_record, names_of
from identity_service.storage.sqlite.facts import raise_to_next
from identity_service.storage.sqlite.transactions import Transactions

_PRINCIPALS = (RecordKind.CLIENT, RecordKind.USER)
_ARTICLES: Final = {RecordKind.ISSUER: "an"}
"""The articles of kinds that do not take "a"."""


class SqliteRecords:
    """The records of a store in one SQLite file; implements the port `RecordStore`."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def get(self, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None:
        """Return a record by kind and id."""
        with self._transactions.reading() as connection:
            return get(connection, kind, id_)

    def list_of(
        self, kind: type[RecordT], *, after: str = "", limit: int = 100
    ) -> Sequence[Versioned[RecordT]]:
        """Return at most `limit` records of a kind with an id greater than `after`, by id."""
        with self._transactions.reading() as connection:
            rows = connection.execute(
                "SELECT value, epoch, position, link FROM records"
                " WHERE kind = ? AND id > ? ORDER BY id LIMIT ?",
                (kind_of(kind), after, limit),
            )
            return [_versioned(kind, row) for row in rows]

    def find_user(self, username: str) -> Versioned[User] | None:
        """Return the user that has this username after normalization, or None."""
        with self._transactions.reading() as connection:
            return find_user(connection, username)

    def find_client(self, certificate: str) -> Versioned[Client] | None:
        """Return the client that has this certificate name, or None."""
        with self._transactions.reading() as connection:
            return _find(connection, Client, certificate)

    def create(self, record: Record, *, audit: AuditEvent | None = None) -> Appended:
        """Insert a record. Raises AlreadyExistsError if its id or one of its names is taken."""
        kind = kind_of(type(record))
        with self._transactions.mutation(audit) as mutation:
            # Users and clients share one namespace: a generation belongs to an id, not to a kind.
            for taken in _PRINCIPALS if kind in _PRINCIPALS else (kind,):
                if _revision(mutation.connection, taken, record.id) is not None:
                    article = _ARTICLES.get(taken, "a")
                    raise AlreadyExistsError(f"{article} {taken.value} with this id exists already")
            _require_free_names(mutation.connection, record)
            mutation.append(RecordChanged(kind=kind, id=record.id))
            write(mutation.connection, record, mutation.revision)
            return mutation.appended()

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
        """Replace a record; with `revoke` raise the generation of its principal, too.

        Raises NotFoundError; StaleEtagError if it changed since `expected`; AlreadyExistsError if a name is
        taken.
        """
        kind = kind_of(type(record))
        with self._transactions.mutation(audit) as mutation:
            _require_unchanged(mutation.connection, kind, record.id, expected)
            _require_free_names(mutation.connection, record)
            mutation.append(RecordChanged(kind=kind, id=record.id))
            if revoke and kind in _PRINCIPALS:
                raise_to_next(mutation, PrincipalId(record.id), above, link)
            # The revision of the whole mutation, so that the etag that this returns is valid for the next.
            write(mutation.connection, record, mutation.revision)
            return mutation.appended()

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
        """Delete a record; if it is a principal, raise its generation.

        Raises NotFoundError; StaleEtagError if it changed since `expected` (None = in any case).
        """
        with self._transactions.mutation(audit) as mutation:
            _require_unchanged(mutation.connection, kind, id_, expected)
            remove(mutation.connection, kind, id_)
            mutation.append(RecordChanged(kind=kind, id=id_))
            if kind in _PRINCIPALS:
                raise_to_next(mutation, PrincipalId(id_), above, link)
            return mutation.appended()


def get(connection: sqlite3.Connection, kind: type[RecordT], id_: str) -> Versioned[RecordT] | None:
    """Return the record of this kind and id, or None."""
    row = connection.execute(
        "SELECT value, epoch, position, link FROM records WHERE kind = ? AND id = ?", (kind_of(kind), id_)
    ).fetchone()
    return None if row is None else _versioned(kind, row)


def find_user(connection: sqlite3.Connection, username: str) -> Versioned[User] | None:
    """Return the user that has this username after normalization, or None."""
    return _find(connection, User, normalize_username(username))


def _find(connection: sqlite3.Connection, kind: type[RecordT], name: str) -> Versioned[RecordT] | None:
    """Return the record of this kind that has the name, or None."""
    row = connection.execute(
        "SELECT id FROM names WHERE kind = ? AND name = ?", (kind_of(kind), name)
    ).fetchone()
    return None if row is None else get(connection, kind, row[0])


def write(connection: sqlite3.Connection, record: Record, revision: Revision) -> None:
    """Insert or replace a record with its names; a name that another record has goes to this one."""
    kind = kind_of(type(record))
    connection.execute(
        "INSERT OR REPLACE INTO records (kind, id, value, epoch, position, link) VALUES (?, ?, ?, ?, ?, ?)",
        (kind, record.id, encode_record(record), revision.epoch, revision.position, revision.link),
    )
    connection.execute("DELETE FROM names WHERE kind = ? AND id = ?", (kind, record.id))
    connection.executemany(
        "INSERT OR REPLACE INTO names (kind, name, id) VALUES (?, ?, ?)",
        [(kind, name, record.id) for name in names_of(record)],
    )


def remove(connection: sqlite3.Connection, kind: RecordKind, id_: str) -> None:
    """Delete a record and its names, if there is one."""
    connection.execute("DELETE FROM records WHERE kind = ? AND id = ?", (kind, id_))
    connection.execute("DELETE FROM names WHERE kind = ? AND id = ?", (kind, id_))


def _require_unchanged(
    connection: sqlite3.Connection, kind: RecordKind, id_: str, expected: Revision | None
) -> None:
    """Raise NotFoundError if there is no record, StaleEtagError if it has another etag than `expected`."""
    revision = _revision(connection, kind, id_)
    if revision is None:
        raise NotFoundError(f"there is no {kind.value} with this id")
    if expected is not None and revision != expected:
        raise StaleEtagError(f"the {kind.value} has changed since it was read")


def _require_free_names(connection: sqlite3.Connection, record: Record) -> None:
    """Raise AlreadyExistsError if another record has one of the names."""
    kind = kind_of(type(record))
    for name in names_of(record):
        row = connection.execute("SELECT id FROM names WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        if row is not None and row[0] != record.id:
            raise AlreadyExistsError("the username or certificate is taken")


def _revision(connection: sqlite3.Connection, kind: RecordKind, id_: str) -> Revision | None:
    """Return the etag of a record, or None if there is no such record."""
    row = connection.execute(
        "SELECT epoch, position, link FROM records WHERE kind = ? AND id = ?", (kind, id_)
    ).fetchone()
    return None if row is None else _etag(*row)


def _versioned(kind: type[RecordT], row: tuple[Any, ...]) -> Versioned[RecordT]:
    """Return the record of a row. Raises StoreDamagedError, which names the record."""
    value, *etag = row
    revision = _etag(*etag)
    with reading(f"records, {kind_of(kind)} at {revision}"):
        return Versioned(record=decode_record(kind, value), revision=revision)


def _etag(epoch: str, position: int, link: str | None) -> Revision:
    """Return the etag; a record that an older version wrote has no link until it is written again."""
    return Revision(epoch=Epoch(epoch), position=position, link=None if link is None else Link(link))
