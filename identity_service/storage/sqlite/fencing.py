"""The fence of an SQLite store: a text beside its head. Runs inside a transaction of the caller."""

import sqlite3
from typing import Final

from identity_service.domain.copying import Fence
from identity_service.domain.errors import StoreFencedError
from identity_service.storage import fence as texts
from identity_service.storage.sqlite import changes

_WHERE: Final = "log_head, fence"


def require_none(connection: sqlite3.Connection) -> None:
    """Raise StoreFencedError if the store is fenced. Every write transaction begins with this."""
    if text := _text(connection):
        raise texts.fence_error(text, _WHERE)


def read(connection: sqlite3.Connection) -> Fence | None:
    """Return the fence, or None. Raises StoreUninitializedError, StoreDamagedError."""
    text = _text(connection)
    if text is None:
        raise changes.uninitialised()
    return texts.decode_fence(text, _WHERE)


def put(connection: sqlite3.Connection, fence: Fence) -> None:
    """Write the fence; one for the same target is replaced.

    Raises StoreUninitializedError; StoreFencedError if the store is fenced for another target.
    """
    found = read(connection)
    if found is not None and found.target != fence.target:
        raise StoreFencedError(found.target)
    connection.execute("UPDATE log_head SET fence = ?", (texts.encode_fence(fence),))


def lift(connection: sqlite3.Connection, only: Fence | None) -> bool:
    """Remove the fence, or only the fence `only`; returns whether one was removed.

    None removes any fence, even one that cannot be read.
    """
    if only is None:
        lifted = connection.execute("UPDATE log_head SET fence = '' WHERE fence <> ''")
    else:
        lifted = connection.execute(
            "UPDATE log_head SET fence = '' WHERE fence = ?", (texts.encode_fence(only),)
        )
    return lifted.rowcount == 1


def _text(connection: sqlite3.Connection) -> str | None:
    """Return the text of the fence, empty if there is none; None = there is no head."""
    row = connection.execute("SELECT fence FROM log_head").fetchone()
    return None if row is None else str(row[0])
