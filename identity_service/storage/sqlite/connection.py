"""One connection to SQLite, which threads use one at a time, and which can be opened anew under them."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from identity_service.domain.errors import StoreUnavailableError

POLL: Final = 0.005
"""Seconds between two looks at what SQLite does not wait for itself."""


class Connection:
    """A connection and the lock that whoever uses it holds."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._lock = threading.Lock()
        self._closed = False
        self._raw = self._connect()

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
        with self.held() as connection, _committed(connection, begin):
            yield connection

    @property
    def raw(self) -> sqlite3.Connection:
        """For a caller that holds it."""
        return self._raw

    @contextmanager
    def nested_transaction(self) -> Iterator[sqlite3.Connection]:
        """One that writes, for a caller that holds it."""
        with _committed(self._raw, "BEGIN IMMEDIATE"):
            yield self._raw

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._raw.close()

    def disconnect(self) -> None:
        """Close it, to be opened again by `reconnect`; the caller holds it, and nobody else is in it."""
        self._raw.close()

    def reconnect(self) -> None:
        """Open it again, on the files that are at the path now; the caller holds it."""
        self._raw = self._connect()

    def _connect(self) -> sqlite3.Connection:
        # Other threads may use it: the lock sees to it that they do so one at a time.
        raw = sqlite3.connect(
            self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        try:
            # FULL: a commit is on disk when it returns, also through a power cut.
            raw.execute("PRAGMA synchronous = FULL")
        except BaseException:
            raw.close()
            raise
        return raw


@contextmanager
def _committed(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself may have rolled back already, as where the disk is full.
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def use_write_ahead_log(connection: sqlite3.Connection, timeout: float) -> str:
    """SQLite does not wait for its lock when two processes make the file at once, so this does."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(POLL)
        else:
            return str(mode)
