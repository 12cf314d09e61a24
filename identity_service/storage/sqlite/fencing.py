"""The fence of a store on SQLite: a text beside its head. Runs inside a transaction of the caller."""

import sqlite3
from typing import Final

from identity_service.domain.copying import Fence
from identity_service.domain.errors import StoreFencedError
from identity_service.storage import fence as texts
from identity_service.storage.sqlite import changes

_WHERE: Final = "log_head, fence"


def require_none(connection: sqlite3.Connection) -> None:
    """Raise StoreFencedError if the store takes no writes. Every write transaction begins with this."""
    if text := _text(connection):
        raise texts.fence_error(text, _WHERE)


def read(connection: sqlite3.Connection) -> Fence | None:
    """Raises StoreUninitializedError."""
    text = _text(connection)
    if text is None:
        raise changes.uninitialised()
    return texts.decode_fence(text, _WHERE)


def put(connection: sqlite3.Connection, fence: Fence) -> None:
    """Raises StoreUninitializedError; StoreFencedError if the store is fenced for another target."""
    found = read(connection)
    if found is not None and found.target != fence.target:
        raise StoreFencedError(found.target)
    connection.execute("UPDATE log_head SET fence = ?", (texts.encode_fence(fence),))


def lift(connection: sqlite3.Connection, only: Fence | None) -> bool:
    """Return whether a fence was lifted: any, also one that cannot be read, or this one only."""
    if only is None:
        lifted = connection.execute("UPDATE log_head SET fence = '' WHERE fence <> ''")
    else:
        lifted = connection.execute(
            "UPDATE log_head SET fence = '' WHERE fence = ?", (texts.encode_fence(only),)
        )
    return lifted.rowcount == 1


def _text(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("SELECT fence FROM log_head").fetchone()
    return None if row is None else str(row[0])
