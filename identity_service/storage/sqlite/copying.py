"""Copying an SQLite store: out of it in one read transaction, and into it in one write transaction."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager

from identity_service.domain.audit import RingSizes
from identity_service.domain.copying import CopiedItem, Fence
from identity_service.domain.errors import AlreadyExistsError, StoreFencedError, StoreUninitializedError
from identity_service.domain.ids import Epoch, PrincipalId
from identity_service.domain.log import Generation, Head
from identity_service.domain.ports import Clock
from identity_service.storage.codec import decode_fence, encode_fence
from identity_service.storage.sqlite import exporting, facts, importing
from identity_service.storage.sqlite.database import Database
from identity_service.storage.sqlite.transactions import FENCE


class SqliteCopying:
    """The copy source and copy target of one SQLite store; implements the port `Copying`."""

    def __init__(self, database: Database, clock: Clock, keep_events: RingSizes) -> None:
        self._database = database
        self._clock = clock
        self._keep_events = keep_events

    @contextmanager
    def export(self, *, whole: bool) -> Iterator[tuple[Head, Iterator[CopiedItem]]]:
        """Yield the head and the items of one snapshot of the store."""
        with self._database.apart() as snapshot:
            head = exporting.head_to_copy(snapshot, self._clock.now())
            with closing(exporting.items(snapshot, head, whole=whole)) as items:
                yield head, items

    def fence(self, fence: Fence) -> None:
        """Refuse every write from now on; the fence is on disk when this returns."""
        with self._database.writing() as connection:
            found = _read_fence(connection)
            if found is not None and found.target != fence.target:
                raise StoreFencedError(found.target)
            connection.execute("UPDATE log_head SET fence = ?", (encode_fence(fence),))

    def fenced(self) -> Fence | None:
        """Return the fence, or None."""
        with self._database.reading() as connection:
            return _read_fence(connection)

    def lift_fence(self, only: Fence | None = None) -> bool:
        """Accept writes again; returns whether a fence was lifted. None also lifts an unreadable one."""
        condition, words = ("<> ''", ()) if only is None else ("= ?", (encode_fence(only),))
        with self._database.writing() as connection:
            lifted = connection.execute(f"UPDATE log_head SET fence = '' WHERE fence {condition}", words)  # noqa: S608  # text from above
            return lifted.rowcount == 1

    def is_empty(self) -> bool:
        """Return whether every table is empty."""
        with self._database.reading() as connection:
            return importing.is_empty(connection)

    def has_part_of_copy(self) -> bool:
        """Return False: a copy is one transaction, so there is never a part of one."""
        return False

    def generations_held(self) -> Mapping[PrincipalId, Generation]:
        """Return the generations in the table, even if the store has lost its head."""
        with self._database.reading() as connection:
            return facts.all_generations(connection)

    def write_copy(self, items: Iterable[CopiedItem], epoch: Epoch, *, replace: bool) -> None:
        """Write all items and the head in one transaction."""
        try:
            with self._database.writing() as connection:
                if replace:
                    importing.delete_all(connection)
                elif not importing.is_empty(connection):
                    raise AlreadyExistsError("the store holds data already: nothing was written")
                importing.write(connection, _from_source(items), epoch, self._keep_events)
        except _SourceError as error:
            raise error.cause from None

    def discard_copy(self) -> None:
        """Wait for a transaction that writes a copy; there is nothing to delete.

        Raises AlreadyExistsError if the store has a head.
        """
        with self._database.writing() as connection:  # waits for the transaction that writes a copy
            if connection.execute("SELECT 1 FROM log_head").fetchone() is not None:
                raise AlreadyExistsError("the store is initialised: there is no unfinished copy to delete")


def _read_fence(connection: sqlite3.Connection) -> Fence | None:
    """Return the fence, or None. Raises StoreUninitializedError, StoreDamagedError."""
    row = connection.execute("SELECT fence FROM log_head").fetchone()
    if row is None:
        raise StoreUninitializedError
    return decode_fence(str(row[0]), FENCE)


class _SourceError(Exception):
    """An error of the source of a copy, which must not be taken for an error of this store."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


def _from_source(items: Iterable[CopiedItem]) -> Iterator[CopiedItem]:
    """Yield the items. Raises _SourceError for every error of their source."""
    try:
        yield from items
    except Exception as error:
        raise _SourceError(error) from error
