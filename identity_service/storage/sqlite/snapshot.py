"""A snapshot of the whole store, read over a separate connection while other calls go on.

The connection is held for one chunk of rows at a time, so that `FileGuard` can close it in between.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from identity_service.domain.errors import StoreUnavailableError
from identity_service.storage.sqlite.connection import Connection

_CHUNK: Final = 1000


class Snapshot:
    """A read transaction that stays open until its connection is closed. Used by one thread."""

    def __init__(
        self, connection: Connection, translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """Begin the transaction: later commits are not visible in it.

        Args:
            connection: a connection that nothing else uses.
            translated: translates SQLite's errors into those of the domain.
        """
        self._connection = connection
        self._translated = translated
        self._raw: sqlite3.Connection | None = None
        with self.held() as raw:
            raw.execute("BEGIN")
            raw.execute("SELECT 1 FROM log_head").fetchone()  # the first read begins the snapshot

    @contextmanager
    def held(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for a few short statements.

        Raises StoreUnavailableError; one cause is that the files were reopened since the transaction began.
        """
        with self._translated(), self._connection.held() as raw:
            self._raw = self._raw or raw
            if raw is not self._raw:
                raise StoreUnavailableError(
                    "the store's files were opened anew while it was copied; begin again"
                )
            try:
                yield raw
            except sqlite3.ProgrammingError as error:  # closed, and not reopened yet
                raise StoreUnavailableError("the store was closed while it was copied") from error

    def rows(self, statement: str, *words: object) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a SELECT. Raises as `held` does."""
        with self.held() as raw:
            cursor = raw.execute(statement, words)
        while True:
            with self.held():
                chunk = cursor.fetchmany(_CHUNK)
            yield from chunk
            if len(chunk) < _CHUNK:
                return
