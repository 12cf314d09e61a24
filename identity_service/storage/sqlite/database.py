"""The open SQLite file: its connections, transactions and errors. Knows no table but the schema's.

One connection writes, one reads and one watches for writes of other processes; a lock guards each, so
any thread may call. A private database (`:memory:`) lives in a single connection, which serves as all.
`guard.py` looks after the files.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from identity_service.domain.errors import ConfigurationError, StoreUnavailableError
from identity_service.domain.ports import EventLog
from identity_service.storage.sqlite import schema
from identity_service.storage.sqlite.connection import POLL, Connection, use_write_ahead_log
from identity_service.storage.sqlite.files import (
    create_private,
    directory_locked,
    leave_to_owner,
    why_not_opened,
)
from identity_service.storage.sqlite.guard import FileGuard, is_damage
from identity_service.storage.sqlite.snapshot import Snapshot
from identity_service.storage.upgrade import require_stopped

MEMORY: Final = ":memory:"
_BUGS: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.NotSupportedError)
"""Errors of this program, not of the store: they must not be reported as an outage."""


class Database:
    """One SQLite file, or a private database in memory."""

    def __init__(self, path: str, *, timeout: float, event_log: EventLog | None = None) -> None:
        """Open or create the file.

        Args:
            path: of the file, or `:memory:`.
            timeout: seconds to wait for a lock, here or of another process.
            journal: where it is said that the files are not as they should be.

        Raises ConfigurationError, StoreUnavailableError.
        """
        self._path = None if path == MEMORY else Path(path).absolute()
        self._timeout = timeout
        self._notice = threading.Condition()
        self._commits = 0
        self._closed = False
        self._connections: list[Connection] = []
        self._guard: FileGuard | None = None
        try:
            self._open(path, event_log)
        except BaseException:
            self.close()
            raise

    def _open(self, path: str, event_log: EventLog | None) -> None:
        try:
            if self._path is None:
                self._prepare(path)
                return
            create_private(self._path)
            path = str(self._path)
            with directory_locked(self._path, self._timeout, alone=False):
                self._prepare(path)
                self._reader, self._watcher = self._connect(path), self._connect(path)
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
                f"the store {path} cannot be opened: {error.strerror}. Its folder must exist, and this "
                "user must be allowed to write there; or set `store` to another path"
            ) from error

    def _prepare(self, path: str) -> None:
        self._reader = self._watcher = self._writer = self._connect(path)
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
        connection = Connection(path, self._timeout)
        self._connections.append(connection)
        return connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that may change everything; committed, hence on disk, when the block ends.

        On disk means in files that the next process finds: see `FileGuard`.
        """
        with self._translated("written"):
            self._check_files()
            with self._writer.transaction("BEGIN IMMEDIATE") as connection:
                losses = self._losses
                yield connection
            self._check_files()
            if self._losses != losses:
                raise StoreUnavailableError("the store's files were replaced during the write; try again")
        with self._notice:
            self._commits += 1
            self._notice.notify_all()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one moment of everything."""
        with self._translated("read"):
            self._check_files()
            with self._reader.transaction("BEGIN") as connection:
                yield connection

    @contextmanager
    def apart(self) -> Iterator[Snapshot]:
        """One moment of everything, for a long read: no other call of this object waits for it.

        SQLite's write-ahead log grows with what is written meanwhile, and shrinks after it.
        """
        with ExitStack() as stack:
            with self._translated("read"):
                connection = stack.enter_context(self._another_connection())
                snapshot = Snapshot(connection, lambda: self._translated("read"))
            yield snapshot

    @contextmanager
    def _another_connection(self) -> Iterator[Connection]:
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

    def wait(self, happened: Callable[[], bool], timeout: float) -> None:
        """Return once `happened()` is true after a commit of whatever process, or after `timeout` seconds.

        This process's commits notify; those of others show in `data_version`, which is cheap to ask.
        """
        deadline = time.monotonic() + timeout
        if self._guard is not None:
            with self._translated("read"):
                self._guard.check()
                self._guard.examine()
        # The mark is taken before the question: what is committed after the question moves it.
        mark = self._mark()
        while not happened():
            while (seen := self._mark()) == mark:
                if not self._pause(mark[0], deadline):
                    return
            mark = seen
            if self._closed or time.monotonic() >= deadline:
                return

    def _mark(self) -> tuple[int, int]:
        """How many commits there were: of this object, and (any number that changes) of others."""
        commits = self._commits
        with self._translated("read"), self._watcher.held() as connection:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
        return commits, version

    def _pause(self, commits: int, deadline: float) -> bool:
        """Wait for a commit of this object, or until it is time to ask about others; False at the end."""
        left = deadline - time.monotonic()
        if self._closed or left <= 0:
            return False
        with self._notice:
            self._notice.wait_for(lambda: self._closed or self._commits != commits, min(POLL, left))
        return True

    def close(self) -> None:
        """Release everything; wakes whoever waits."""
        self._closed = True
        with self._notice:
            self._notice.notify_all()
        if self._guard is not None:
            self._guard.close()
        for connection in self._connections:
            connection.close()

    @property
    def _losses(self) -> int:
        return 0 if self._guard is None else self._guard.losses

    def _check_files(self) -> None:
        if self._guard is not None:
            self._guard.check()

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """SQLite's errors, and the file system's, as those of the domain; the cause is for the log only."""
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
