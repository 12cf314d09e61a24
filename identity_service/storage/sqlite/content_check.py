"""Notices if the content of an open database file was written over, as `cp` does; SQLite does not notice."""

import sqlite3
import time
from pathlib import Path
from typing import Final

from identity_service.storage.sqlite.connection import Connection

_LARGEST: Final = 16 * 2**20
"""The size in bytes up to which a file is checked; 16 MiB take about 50 ms."""
_INTERVAL: Final = 10.0
"""Seconds between two checks, unless the file has shrunk."""
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_damage(error: Exception) -> bool:
    """Return whether SQLite reports that the file is not a database, or is malformed."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


class ContentCheck:
    """A check of the content of one file, which is made only if the file has changed since the last one."""

    def __init__(self, path: Path, connection: Connection) -> None:
        """Note the state of the file, which is known to be whole; `connection` is one to this file."""
        self._path = path
        self._connection = connection
        self._checked = self._size_and_mtime()
        self._checked_at = float("-inf")

    def finds_damage(self) -> bool:
        """Return whether the file is not a whole database any more.

        The content is checked if the file was written to since the last time, at most every 10 s. A file
        above 16 MiB is not checked. Raises StoreUnavailableError if the connection is in use for too long.
        """
        found = self._size_and_mtime()
        if found == self._checked:
            return False
        shrunk = found[0] < self._checked[0]
        if not shrunk and time.monotonic() - self._checked_at < _INTERVAL:
            return False
        if found[0] <= _LARGEST and not self._is_whole():
            return True
        self._checked, self._checked_at = found, time.monotonic()
        return False

    def _size_and_mtime(self) -> tuple[int, int]:
        """Return size and modification time; both change when SQLite writes its log into the file."""
        try:
            status = self._path.stat()
        except OSError:
            return 0, 0
        return status.st_size, status.st_mtime_ns

    def _is_whole(self) -> bool:
        """Return whether the file passes SQLite's check.

        Not by a new connection: if the log (`-wal`) has just been removed, SQLite would create another one,
        and take the file without the log for a damaged one.
        """
        with self._connection.held() as connection:
            try:
                connection.execute("PRAGMA shrink_memory")  # read the file, not the pages in the cache
                found: str
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            except sqlite3.Error as error:
                return not is_damage(error)
        return found == "ok"
