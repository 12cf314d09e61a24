"""Counts of failed attempts to sign in, shared by all processes that use one embedded store.

They are kept in a file of their own, because unauthenticated clients cause these writes. No write to the
store waits for them, and none of them waits for the disk. Losing the file does no harm.
"""

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from identity_service.domain.attempts import (
    CLAIM_LIFETIME,
    MAX_COUNTERS,
    AllClaimsInUse,
    Claim,
    Counts,
    Limit,
    Paused,
    Verdict,
    refusal,
)
from identity_service.domain.errors import ConfigurationError, StoreUnavailableError
from identity_service.storage.sqlite.connection import Connection, use_write_ahead_log
from identity_service.storage.sqlite.files import create_private, leave_to_owner

_LIFETIME: Final = CLAIM_LIFETIME.total_seconds()
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS counter (
  key TEXT PRIMARY KEY, failed INTEGER NOT NULL, forgiven INTEGER NOT NULL,
  window_end REAL NOT NULL, pause_end REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS counter_by_end ON counter (window_end);
CREATE TABLE IF NOT EXISTS claim (
  key TEXT NOT NULL, name TEXT NOT NULL, claim_end REAL NOT NULL, PRIMARY KEY (key, name)) WITHOUT ROWID;
"""


class SqliteAttempts:
    """The counters of failed attempts in one SQLite file; implements the port AttemptCounter."""

    def __init__(
        self, path: str, now: Callable[[], float], *, timeout: float, kept: int = MAX_COUNTERS
    ) -> None:
        """Open nothing yet: a service without passwords needs no such file.

        Args:
            path: the path of the file, or `:memory:`.
            now: returns seconds on a clock that is never set and that all processes on this machine share.
            timeout: seconds to wait for other processes.
            kept: the largest number of counters with failures that are kept.
        """
        self._path = path
        self._now = now
        self._timeout = timeout
        self._kept = kept
        self._opening = threading.Lock()
        self._connection: Connection | None = None

    def claim(self, limits: Sequence[Limit]) -> Claim | Paused | AllClaimsInUse:
        """Claim one attempt against all of these limits, or return why it is refused."""
        name = secrets.token_hex(8)
        with self._writing() as connection:
            now = self._now()
            connection.execute("DELETE FROM claim WHERE claim_end <= ?", [now])
            # After a restart of the machine its clock begins anew, and old claims would last too long.
            furthest = now + _LIFETIME
            connection.execute("UPDATE claim SET claim_end = ? WHERE claim_end > ?", [furthest, furthest])
            found = [_read(connection, limit, now) for limit in limits]
            refused = refusal([(limit.policy, c) for limit, c in zip(limits, found, strict=True)], now)
            if refused is not None:
                return refused
            rows = [(limit.key, name, furthest) for limit in limits]
            connection.executemany("INSERT INTO claim (key, name, claim_end) VALUES (?, ?, ?)", rows)
        return Claim(settle=partial(self._settle, name, limits, [counts.failed for counts in found]))

    def _settle(self, name: str, limits: Sequence[Limit], failed: Sequence[int], verdict: Verdict) -> None:
        """End a claim with its verdict."""
        with self._writing() as connection:
            now = self._now()
            for limit, failed_before in zip(limits, failed, strict=True):
                connection.execute("DELETE FROM claim WHERE key = ? AND name = ?", [limit.key, name])
                counts = _read(connection, limit, now)
                counts.judge(limit.policy, verdict, failed_before, now)
                if counts.failures_at(now) or counts.claims:
                    _write(connection, limit.key, counts)
                else:
                    connection.execute("DELETE FROM counter WHERE key = ?", [limit.key])
            if verdict is Verdict.WRONG:
                self._forget(connection, now)

    def close(self) -> None:
        """Close the file, if it was opened."""
        with self._opening:
            if self._connection is not None:
                self._connection.close()

    def _forget(self, connection: sqlite3.Connection, now: float) -> None:
        """Delete counters whose window is over, and those beyond `kept` whose window ends first."""
        connection.execute(
            "DELETE FROM counter WHERE window_end <= ? AND key NOT IN (SELECT key FROM claim)", [now]
        )
        connection.execute(
            "DELETE FROM counter WHERE key IN "
            "(SELECT key FROM counter ORDER BY window_end DESC LIMIT -1 OFFSET ?)",
            [self._kept],
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Run a write transaction. Raises StoreUnavailableError if the file cannot be used."""
        try:
            with self._opened().transaction("BEGIN IMMEDIATE") as connection:
                yield connection
        except (sqlite3.Error, OSError, ConfigurationError) as error:
            raise StoreUnavailableError(
                f"failed attempts cannot be counted in {self._path}: {error}. If it is damaged, remove it"
            ) from error

    def _opened(self) -> Connection:
        """Return the connection; open or create the file at the first call."""
        with self._opening:
            if self._connection is None:
                if self._path != ":memory:":
                    create_private(Path(self._path))
                made = Connection(self._path, self._timeout)
                try:
                    with made.held() as connection:
                        connection.execute("PRAGMA schema_version")  # raises if the file is not a database
                        if self._path != ":memory:":
                            leave_to_owner(Path(self._path))
                        use_write_ahead_log(connection, self._timeout)
                        # No commit is synced: a power cut loses the last ones but damages nothing.
                        connection.execute("PRAGMA synchronous = NORMAL")
                        connection.executescript(_TABLES)
                except BaseException:
                    made.close()
                    raise
                self._connection = made
            return self._connection


def _read(connection: sqlite3.Connection, limit: Limit, now: float) -> Counts:
    """Return the counts of a key.

    The ends of windows and pauses are limited to the latest possible times, because the clock begins anew
    when the machine is restarted.
    """
    (claims,) = connection.execute("SELECT count(*) FROM claim WHERE key = ?", [limit.key]).fetchone()
    row = connection.execute(
        "SELECT failed, forgiven, window_end, pause_end FROM counter WHERE key = ?", [limit.key]
    ).fetchone()
    if row is None:
        return Counts(claims=claims)
    counts = Counts(failed=row[0], forgiven=row[1], window_end=row[2], pause_end=row[3], claims=claims)
    window_end = now + limit.policy.window.total_seconds()
    failures = counts.failed - counts.forgiven
    pause_end = now + limit.policy.pause_after(failures).total_seconds()
    if counts.window_end > window_end or counts.pause_end > pause_end:
        counts.window_end = min(counts.window_end, window_end)
        counts.pause_end = min(counts.pause_end, pause_end)
        _write(connection, limit.key, counts)
    return counts


def _write(connection: sqlite3.Connection, key: str, counts: Counts) -> None:
    """Insert or replace the counts of a key."""
    connection.execute(
        "REPLACE INTO counter (key, failed, forgiven, window_end, pause_end) VALUES (?, ?, ?, ?, ?)",
        [key, counts.failed, counts.forgiven, counts.window_end, counts.pause_end],
    )
