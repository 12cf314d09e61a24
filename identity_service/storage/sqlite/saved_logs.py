"""The rows in the file by which a process tells others that it has saved a log that was removed.

If the write-ahead log is removed while several processes have it open, the first one to notice writes the
whole log into the file, with such a row, and a new log begins. The others find the row, and so know that
nothing is lost if they leave the old log.
"""

import sqlite3
from contextlib import closing
from typing import Final
from urllib.parse import quote

from identity_service.domain.errors import StoreUnavailableError
from identity_service.storage.sqlite.files import FileIds

_KEPT: Final = 16
"""The number of saved logs that are remembered in the file."""


def note(connection: sqlite3.Connection, ids: FileIds) -> None:
    """Note that the log with these identities is saved by the transaction of the connection."""
    connection.execute("CREATE TABLE IF NOT EXISTS saved_logs (log TEXT NOT NULL)")
    connection.execute("INSERT INTO saved_logs (log) VALUES (?)", (_name(ids),))
    connection.execute(
        "DELETE FROM saved_logs WHERE rowid <= (SELECT max(rowid) FROM saved_logs) - ?", (_KEPT,)
    )


def holds(file: str, ids: FileIds) -> bool:
    """Return whether another process has saved the log with these identities, which this process has open.

    Reads the file without its log: with it, SQLite would use the index that this process has open. Raises
    StoreUnavailableError if the file cannot be read now.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(file)}?immutable=1", uri=True)) as connection:
            return _has_row(connection, ids)
    except sqlite3.Error as error:
        # The other process may be writing to the file at this moment.
        raise StoreUnavailableError("the store's files were replaced; try again") from error


def forget(connection: sqlite3.Connection, ids: FileIds) -> None:
    """Delete the row of a saved log that had the same inode numbers as the one in use.

    Inode numbers are reused, so that row is about an older log.
    """
    if _has_row(connection, ids):
        connection.execute("DELETE FROM saved_logs WHERE log = ?", (_name(ids),))


def _has_row(connection: sqlite3.Connection, ids: FileIds) -> bool:
    tables = "SELECT 1 FROM sqlite_master WHERE name = 'saved_logs'"
    if connection.execute(tables).fetchone() is None:
        return False
    return connection.execute("SELECT 1 FROM saved_logs WHERE log = ?", (_name(ids),)).fetchone() is not None


def _name(ids: FileIds) -> str:
    """Return the identities of log and index as one text: no other files have them while these are open."""
    return f"{ids.wal} {ids.shm}"
