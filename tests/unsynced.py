"""Opens SQLite stores that do not wait for the disk, for tests in which the machine loses no power.

Waiting takes 1 to 5 ms per commit, and the start of a service makes dozens of commits. A new store is a copy
of a database with empty tables: the 40 statements that create them take a seventh of the start of a service.
"""

import functools
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from identity_service.storage.sqlite import schema
from identity_service.storage.sqlite.connection import Connection

_connect: Final = Connection._connect
_copying: Final = threading.Lock()


class _Thread(threading.local):
    """A flag: the stores that this thread opens do not wait for the disk."""

    unsynced = False


_this_thread: Final = _Thread()


@contextmanager
def unsynced() -> Iterator[None]:
    """Have the stores that the block opens return from a commit before it is on the disk."""
    _this_thread.unsynced = True
    try:
        yield
    finally:
        _this_thread.unsynced = False


@functools.cache
def _tables() -> sqlite3.Connection:
    """Return an in-memory database with the empty tables of a store."""
    made = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    schema.migrate(made)
    return made


def _connect_as_wanted(connection: Connection) -> sqlite3.Connection:
    raw = _connect(connection)
    if _this_thread.unsynced:
        raw.execute("PRAGMA synchronous = OFF")
        if raw.execute("PRAGMA page_count").fetchone() == (0,):
            with _copying:
                _tables().backup(raw)
    return raw


Connection._connect = _connect_as_wanted  # type: ignore[method-assign, assignment]
