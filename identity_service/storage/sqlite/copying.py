"""Copying a store on SQLite: out of one read transaction, and in by one write transaction."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager

from identity_service.domain.copying import CopiedItem, Fence
from identity_service.domain.errors import AlreadyExistsError, StoreUnavailableError
from identity_service.domain.ids import Epoch, PrincipalId
from identity_service.domain.log import Generation, Head
from identity_service.domain.ports import Clock
from identity_service.storage.audit_codec import RingSizes
from identity_service.storage.sqlite import exporting, facts, fencing, importing
from identity_service.storage.sqlite.database import Database


class SqliteCopying:
    """Implements the port `Copying`."""

    def __init__(self, database: Database, clock: Clock, keep_events: RingSizes) -> None:
        self._database = database
        self._clock = clock
        self._keep_events = keep_events

    @contextmanager
    def export(self, *, whole: bool) -> Iterator[tuple[Head, Iterator[CopiedItem]]]:
        with self._database.apart() as snapshot:
            head = exporting.head_to_copy(snapshot, self._clock.now())
            with closing(exporting.items(snapshot, head, whole=whole)) as items:
                yield head, items

    def fence(self, fence: Fence) -> None:
        with self._database.writing() as connection:
            fencing.put(connection, fence)

    def fenced(self) -> Fence | None:
        with self._database.reading() as connection:
            return fencing.read(connection)

    def lift_fence(self, only: Fence | None = None) -> bool:
        with self._database.writing() as connection:
            return fencing.lift(connection, only)

    def is_virgin(self) -> bool:
        with self._database.reading() as connection:
            return importing.is_virgin(connection)

    def has_part_of_copy(self) -> bool:
        return False  # a copy is one transaction: it is there, or nothing of it

    def generations_held(self) -> Mapping[PrincipalId, Generation]:
        with self._database.reading() as connection:
            return facts.all_generations(connection)

    def write_copy(self, items: Iterable[CopiedItem], epoch: Epoch, *, replace: bool) -> None:
        failure: list[Exception] = []
        try:
            with self._database.writing() as connection:
                if replace:
                    importing.delete_all(connection)
                elif not importing.is_virgin(connection):
                    raise AlreadyExistsError("the store holds data already: nothing was written")
                importing.write(connection, _noting(items, failure), epoch, self._keep_events)
        except StoreUnavailableError as error:
            # What went wrong where the items come from is no error of this store.
            if failure and error.__cause__ is failure[0]:
                raise failure[0] from None
            raise

    def discard_copy(self) -> None:
        with self._database.writing() as connection:  # waits for the transaction that writes a copy
            if connection.execute("SELECT 1 FROM log_head").fetchone() is not None:
                raise AlreadyExistsError("the store is initialised: there is no unfinished copy to delete")


def _noting(items: Iterable[CopiedItem], failure: list[Exception]) -> Iterator[CopiedItem]:
    try:
        yield from items
    except Exception as error:
        failure.append(error)
        raise
