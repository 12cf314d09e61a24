"""The open SQLite file: its connections, locks, transactions and errors. Knows no table but the schema's.

One connection writes, one reads and one watches for writes of other processes; a lock guards each, so
any thread may call. A private database (`:memory:`) lives in a single connection, which serves as all.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from identity_service.domain.errors import (
    ConfigurationError,
    StoreReplacedError,
    StoreUnavailableError,
)
from identity_service.storage.sqlite import schema

MEMORY: Final = ":memory:"
_POLL: Final = 0.005
_BUGS: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.NotSupportedError)
"""Errors of this program, not of the store: they must not be reported as an outage."""


class _Connection:
    """A connection and the lock that whoever uses it holds."""

    def __init__(self, path: str, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._closed = False
        # Other threads may use it: the lock sees to it that they do so one at a time.
        self._raw = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)

    @contextmanager
    def held(self) -> Iterator[sqlite3.Connection]:
        if not self._lock.acquire(timeout=self._timeout):
            raise StoreUnavailableError("the store is busy; try again")
        try:
            if self._closed:
                raise StoreUnavailableError("the store is closed")
            yield self._raw
        finally:
            self._lock.release()

    @contextmanager
    def transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """Commits at the end, rolls back when anything was raised."""
        with self.held() as connection:
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite itself may have rolled back already, as where the disk is full.
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._raw.close()


class Database:
    """One SQLite file, or a private database in memory."""

    def __init__(self, path: str, *, timeout: float) -> None:
        """Open or create the file. Raises ConfigurationError, StoreUnavailableError."""
        self._path = None if path == MEMORY else Path(path).absolute()
        self._notice = threading.Condition()
        self._commits = 0
        self._closed = False
        self._connections: list[_Connection] = []
        try:
            self._open(path, timeout)
        except BaseException:
            self.close()
            raise

    def _open(self, path: str, timeout: float) -> None:
        try:
            if self._path is not None:
                _create(self._path)
            self._prepare(path, timeout)
        except sqlite3.OperationalError as error:
            raise StoreUnavailableError(f"the store cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(f"the store cannot be opened: {error}") from error
        except OSError as error:
            raise StoreUnavailableError(f"the store cannot be opened: {error.strerror}") from error

    def _prepare(self, path: str, timeout: float) -> None:
        self._writer = self._connect(path, timeout)
        with self._writer.held() as connection:
            mode = _use_write_ahead_log(connection, timeout)
            # FULL: a commit is on disk when it returns, also through a power cut.
            connection.execute("PRAGMA synchronous = FULL")
        if self._path is not None and mode != "wal":
            raise ConfigurationError(
                "the store's file system cannot hold a write-ahead log: use a local disk"
            )
        with self._writer.transaction("BEGIN IMMEDIATE") as connection:
            schema.migrate(connection)
        self._reader = self._watcher = self._writer
        if self._path is not None:
            self._file = _file_id(self._path)
            self._reader = self._connect(path, timeout)
            self._watcher = self._connect(path, timeout)

    def _connect(self, path: str, timeout: float) -> _Connection:
        connection = _Connection(path, timeout)
        self._connections.append(connection)
        return connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that may change everything; committed, hence on disk, when the block ends."""
        with _translated("written"):
            self._check_file()
            with self._writer.transaction("BEGIN IMMEDIATE") as connection:
                yield connection
        with self._notice:
            self._commits += 1
            self._notice.notify_all()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one moment of everything."""
        with _translated("read"):
            self._check_file()
            with self._reader.transaction("BEGIN") as connection:
                yield connection

    def wait(self, happened: Callable[[], bool], timeout: float) -> None:
        """Return once `happened()` is true after a commit of whatever process, or after `timeout` seconds.

        This process's commits notify; those of others show in `data_version`, which is cheap to ask.
        """
        deadline = time.monotonic() + timeout
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
        with _translated("read"), self._watcher.held() as connection:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
        return commits, version

    def _pause(self, commits: int, deadline: float) -> bool:
        """Wait for a commit of this object, or until it is time to ask about others; False at the end."""
        left = deadline - time.monotonic()
        if self._closed or left <= 0:
            return False
        with self._notice:
            self._notice.wait_for(lambda: self._closed or self._commits != commits, min(_POLL, left))
        return True

    def close(self) -> None:
        """Release everything; wakes whoever waits."""
        self._closed = True
        with self._notice:
            self._notice.notify_all()
        for connection in self._connections:
            connection.close()

    def _check_file(self) -> None:
        """A file that was moved or replaced takes writes that nobody will ever read again."""
        if self._path is not None and _file_id(self._path) != self._file:
            raise StoreReplacedError("the store's file was replaced while it was open: restart the service")


def _create(path: Path) -> None:
    """Make the file where there is none, readable by its owner only; SQLite's other files follow it.

    An existing file is not opened: closing it would drop the locks that this process has on it.
    """
    with suppress(FileExistsError):
        path.touch(mode=0o600, exist_ok=False)


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _use_write_ahead_log(connection: sqlite3.Connection, timeout: float) -> str:
    """SQLite does not wait for its lock when two processes make the file at once, so this does."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_POLL)
        else:
            return str(mode)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """SQLite's errors, and the file system's, as those of the domain; the cause is for the log only."""
    try:
        yield
    except _BUGS:
        raise
    except (sqlite3.DatabaseError, OSError) as error:
        raise StoreUnavailableError(f"the store cannot be {what}") from error
