"""The open SQLite file: its connections, transactions and errors.

One connection writes and one reads. A lock guards each, so any thread may call. A private database
(`:memory:`) has a single connection for both. `guard.py` watches the files, and `appends.py` waits for
entries of other processes.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from identity_service.domain.errors import ConfigurationError, StoreUnavailableError
from identity_service.domain.ports import EventLog
from identity_service.storage.sqlite import schema
from identity_service.storage.sqlite.appends import Appends
from identity_service.storage.sqlite.connection import Connection, use_write_ahead_log
from identity_service.storage.sqlite.content_check import is_damage
from identity_service.storage.sqlite.files import (
    create_private,
    directory_locked,
    leave_to_owner,
    why_not_opened,
)
from identity_service.storage.sqlite.guard import FileGuard
from identity_service.storage.sqlite.snapshot import Snapshot
from identity_service.storage.upgrade import require_stopped

MEMORY: Final = ":memory:"
_BUGS: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.NotSupportedError)
"""The errors that are bugs of this program: they must not be reported as an outage of the store."""


class Database:
    """An open SQLite file, or a private database in memory."""

    def __init__(self, path: str, *, timeout: float, event_log: EventLog | None = None) -> None:
        """Open or create the file.

        Args:
            path: the path of the file, or `:memory:`.
            timeout: seconds to wait for a lock of this or another process.
            event_log: records that the files were removed, replaced or damaged, or have to be polled.

        Raises ConfigurationError, StoreUnavailableError.
        """
        self._path = None if path == MEMORY else Path(path).absolute()
        self._timeout = timeout
        self._closed = False
        self._appends = Appends()
        self._connections: list[Connection] = []
        self._guard: FileGuard | None = None
        try:
            self._open(path, event_log)
        except BaseException:
            self.close()
            raise

    def _open(self, path: str, event_log: EventLog | None) -> None:
        """Open the connections, and translate the errors of opening them."""
        try:
            if self._path is None:
                self._prepare(path)
                return
            create_private(self._path)
            path = str(self._path)
            with directory_locked(self._path, self._timeout, alone=False):
                self._prepare(path)
                self._reader = self._connect(path)
                self._appends.watch(self._path, event_log)
                self._guard = FileGuard(self._path, self._connections, self._timeout, event_log)
        except sqlite3.OperationalError as error:
            why = why_not_opened(self._path) if self._path is not None else ""
            raise StoreUnavailableError(f"the store {path} cannot be opened: {why or error}") from error
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"{path} cannot be opened as a store: {error}. Name another path; if it was the store, move "
                "it and its -wal and -shm away, and restore a backup: `identity restore FILE`"
            ) from error
        except OSError as error:
            raise StoreUnavailableError(
                f"the store {self._path} cannot be opened: {error.strerror}. Its folder must exist, and this "
                "user must be allowed to write there; or set `store` (IDENTITY_STORE) to another path"
            ) from error

    def _prepare(self, path: str) -> None:
        """Open the writing connection, and create or migrate the tables."""
        self._reader = self._writer = self._connect(path)
        with self._writer.held() as connection:
            schema.require_own(connection)
            if self._path is not None:
                leave_to_owner(self._path)
            mode = use_write_ahead_log(connection, self._timeout)
        if self._path is not None and mode != "wal":
            raise ConfigurationError(
                "the store's file system cannot hold a write-ahead log: use a local disk"
            )
        with self._writer.held() as connection:
            require_stopped(lambda: schema.heartbeats_of_older(connection))
        with self._writer.transaction("BEGIN IMMEDIATE") as connection:
            schema.migrate(connection)

    def _connect(self, path: str) -> Connection:
        """Open one more connection that `close` closes."""
        connection = Connection(path, self._timeout)
        self._connections.append(connection)
        return connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run a write transaction; when the block ends, it is committed and on disk.

        On disk means in the files that the next process opens: see `FileGuard`.
        """
        with self._translated("written"):
            self._check_files()
            with self._writer.transaction("BEGIN IMMEDIATE") as connection:
                losses = self._losses
                yield connection
            self._check_files()
            if self._losses != losses:
                raise StoreUnavailableError("the store's files were replaced during the write; try again")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Run a read transaction: all its statements see one snapshot."""
        with self._translated("read"):
            self._check_files()
            with self._reader.transaction("BEGIN") as connection:
                yield connection

    @contextmanager
    def apart(self) -> Iterator[Snapshot]:
        """Yield a snapshot for a long read, which delays no other call of this object.

        SQLite's write-ahead log grows while the snapshot is open, and shrinks afterwards.
        """
        with ExitStack() as stack:
            with self._translated("read"):
                connection = stack.enter_context(self._another_connection())
                snapshot = Snapshot(connection, lambda: self._translated("read"))
            yield snapshot

    @contextmanager
    def _another_connection(self) -> Iterator[Connection]:
        """Yield a separate connection; for a database in memory, to a copy of it."""
        if self._guard is not None:
            with self._guard.another() as connection:
                yield connection
            return
        connection = Connection(MEMORY, self._timeout)
        try:
            with self._reader.held() as source, connection.held() as copy:
                source.backup(copy)
            yield connection
        finally:
            connection.close()

    def announce(self) -> None:
        """Notify the threads in `wait`, of this process and of all others, of a commit with new entries."""
        self._appends.announce()

    def wait(self, happened: Callable[[], bool], timeout: float) -> None:
        """Return once `happened()` is true after a commit of any process, or after `timeout` seconds.

        It is asked at first, and then after each commit that its process has announced.
        """
        deadline = time.monotonic() + timeout
        if self._guard is not None:
            with self._translated("read"):
                self._guard.check()
                self._guard.examine()
        while True:
            seen = self._appends.count  # read before `happened`, so that it moves with every later append
            if happened():
                return
            self._appends.wait(seen, deadline - time.monotonic())
            if self._closed or time.monotonic() >= deadline:
                return

    def close(self) -> None:
        """Close all connections, and end every `wait` in progress."""
        self._closed = True
        self._appends.close()
        if self._guard is not None:
            self._guard.close()
        for connection in self._connections:
            connection.close()

    @property
    def _losses(self) -> int:
        """The number of times that the guard has left commits behind that were not acknowledged."""
        return 0 if self._guard is None else self._guard.losses

    def _check_files(self) -> None:
        """Raise UnsafeStoreError or StoreUnavailableError unless the files are in place."""
        if self._guard is not None:
            self._guard.check()

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Translate the errors of SQLite and the file system into those of the domain."""
        try:
            yield
        except _BUGS as error:
            if self._guard is not None and not self._guard.is_open:
                raise StoreUnavailableError("the store's files could not be opened again") from error
            raise
        except (sqlite3.DatabaseError, OSError) as error:
            if self._guard is not None and is_damage(error):
                raise self._guard.refuse_damaged() from error
            raise StoreUnavailableError(f"the store cannot be {what}") from error
