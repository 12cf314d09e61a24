"""One connection to SQLite, which threads use one at a time, and which can be reopened between uses."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from identity_service.domain.errors import StoreUnavailableError

POLL: Final = 0.005
"""Seconds between two checks of a condition for which SQLite has no wait of its own."""


class Connection:
    """An SQLite connection together with the lock that its user holds."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._lock = threading.Lock()
        self._closed = False
        self._raw = self._connect()

    @contextmanager
    def held(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for the block.

        Raises StoreUnavailableError if it is closed, or if it is in use for longer than the timeout.
        """
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
        """Run a transaction: commit at the end of the block, roll back if it raises."""
        with self.held() as connection, committed(connection, begin):
            yield connection

    @property
    def raw(self) -> sqlite3.Connection:
        """The SQLite connection, for a caller that holds the lock."""
        return self._raw

    def close(self) -> None:
        """Close the connection for good, once its user has released it."""
        with self._lock:
            self._closed = True
            self._raw.close()

    def disconnect(self) -> None:
        """Close the connection until `reconnect`; the caller holds the lock."""
        self._raw.close()

    def reconnect(self) -> None:
        """Open the files that are at the path now; the caller holds the lock."""
        self._raw = self._connect()

    def _connect(self) -> sqlite3.Connection:
        # Any thread may use the connection: the lock admits one at a time.
        raw = sqlite3.connect(
            self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        try:
            # FULL: a commit is on disk when it returns, and survives a power cut.
            raw.execute("PRAGMA synchronous = FULL")
        except BaseException:
            raw.close()
            raise
        return raw


@contextmanager
def committed(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    """Run a transaction on a connection that the caller holds."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite may have rolled back already, for example because the disk is full.
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def use_write_ahead_log(connection: sqlite3.Connection, timeout: float) -> str:
    """Turn the write-ahead log on; returns the journal mode that the file has now.

    Retries here for `timeout` seconds, because SQLite does not wait for its lock when two processes create
    the file at once.
    """
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
