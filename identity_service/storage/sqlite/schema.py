"""The tables of the embedded store and their version. The module reads and writes no records.

Times are Unix seconds. A revision is stored as epoch, position and link.
"""

import sqlite3
from typing import Final

from identity_service.domain.errors import ConfigurationError

VERSION: Final = 4
_HEAD_RENAMED: Final = 3
"""The first version in whose stores a process of an older version can write nothing."""

_TABLES: Final = (
    # The end of the log: no row = never initialised.
    """CREATE TABLE head (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        epoch TEXT NOT NULL, position INTEGER NOT NULL, link TEXT NOT NULL,
        floor INTEGER NOT NULL DEFAULT 0, retention REAL NOT NULL DEFAULT 0)""",
    # AUTOINCREMENT, so that a position is never assigned again even after the log was trimmed.
    """CREATE TABLE log (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        link TEXT NOT NULL, previous_link TEXT NOT NULL, time REAL NOT NULL, change TEXT NOT NULL)""",
    """CREATE TABLE denied (
        id TEXT PRIMARY KEY, deny_until REAL NOT NULL, expire_time REAL NOT NULL,
        position INTEGER NOT NULL, link TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE ended (
        id TEXT PRIMARY KEY, deny_until REAL NOT NULL, end_until REAL NOT NULL, expire_time REAL NOT NULL,
        position INTEGER NOT NULL, link TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE generations (
        principal TEXT PRIMARY KEY, number INTEGER NOT NULL, link TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE requests (
        principal TEXT NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, expire_time REAL NOT NULL,
        position INTEGER NOT NULL, link TEXT NOT NULL, PRIMARY KEY (principal, id)) WITHOUT ROWID""",
    """CREATE TABLE records (
        kind TEXT NOT NULL, id TEXT NOT NULL, value TEXT NOT NULL,
        epoch TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID""",
    """CREATE TABLE sessions (
        id TEXT PRIMARY KEY, version INTEGER NOT NULL, expire_time REAL NOT NULL,
        value TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE TABLE beats (process TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID",
    *(
        f"CREATE INDEX {table}_by_expire_time ON {table} (expire_time)"
        for table in ("denied", "ended", "requests", "sessions")
    ),
)

_SECOND: Final = (
    # The names by which records are found besides their ids: usernames, and names of certificates.
    """CREATE TABLE names (
        kind TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID""",
    "CREATE INDEX names_by_id ON names (kind, id)",
    "ALTER TABLE sessions ADD COLUMN subject TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE sessions ADD COLUMN client_id TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX sessions_by_subject ON sessions (subject, expire_time, id)",
    "CREATE INDEX sessions_by_client ON sessions (client_id, expire_time, id)",
    "CREATE TABLE used (id TEXT PRIMARY KEY, expire_time REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX used_by_expire_time ON used (expire_time)",
    # AUTOINCREMENT, so that an id is never assigned again after the oldest events were deleted.
    "CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, event TEXT NOT NULL)",
)

_THIRD: Final = (
    # The rest of a record's etag; NULL in a row that an older version wrote, whose etags have no link.
    "ALTER TABLE records ADD COLUMN link TEXT",
    # Renamed, so that a process of an older version that was paused meanwhile can write nothing more.
    "ALTER TABLE head RENAME TO log_head",
    # The counts of entries and generations, whether the log is complete, and the high-water marks.
    "ALTER TABLE log_head ADD COLUMN kept INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE log_head ADD COLUMN raised INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE log_head ADD COLUMN complete INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE log_head ADD COLUMN lifetime REAL NOT NULL DEFAULT 0",
    "ALTER TABLE log_head ADD COLUMN session REAL NOT NULL DEFAULT 0",
    "ALTER TABLE log_head ADD COLUMN leeway REAL NOT NULL DEFAULT 0",
    "ALTER TABLE log_head ADD COLUMN time REAL",
    "ALTER TABLE log_head ADD COLUMN latest REAL",
    # The fence (JSON): the store to which this one was moved; empty = it accepts writes.
    "ALTER TABLE log_head ADD COLUMN fence TEXT NOT NULL DEFAULT ''",
    # Older versions did not count. The longest token lifetime follows from the retention of the log.
    "UPDATE log_head SET kept = (SELECT count(*) FROM log), raised = (SELECT count(*) FROM generations),"
    " complete = 0, lifetime = max(0, retention - 600)",
    "ALTER TABLE sessions ADD COLUMN ended INTEGER NOT NULL DEFAULT 0",
    "UPDATE sessions SET ended = 1 WHERE id IN (SELECT id FROM ended)",
    "ALTER TABLE beats ADD COLUMN status TEXT NOT NULL DEFAULT ''",
)

_FOURTH: Final = (
    # Events of traffic, beside those of changes in `audit`. `after_id` is the last id that `audit` had
    # assigned by then: both numbers together are the place of the event among the events of both tables.
    """CREATE TABLE audit_traffic (
        id INTEGER PRIMARY KEY AUTOINCREMENT, after_id INTEGER NOT NULL, time REAL NOT NULL,
        event TEXT NOT NULL)""",
    "CREATE INDEX audit_traffic_by_after_id ON audit_traffic (after_id)",
)

_FROM_FIRST: Final = (
    "INSERT INTO names (kind, name, id) SELECT kind, username, id FROM records WHERE username IS NOT NULL",
    "DROP INDEX records_by_username",
    "ALTER TABLE records DROP COLUMN username",
    "UPDATE sessions SET subject = json_extract(value, '$.sub'), client_id = json_extract(value, '$.client')",
)
"""The migration from version 1, whose records had a column for the username and whose sessions could not be
listed."""


def heartbeats_of_older(connection: sqlite3.Connection) -> dict[str, float]:
    """Return the time of each process's last heartbeat, if the file has a schema older than version 3.

    Such processes must not run beside this version. A process of version 3 may: this version reads what it
    writes, and it needs nothing from the new table.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not 0 < version < _HEAD_RENAMED:
        return {}
    return dict(connection.execute("SELECT process, time FROM beats").fetchall())


def require_own(connection: sqlite3.Connection) -> int:
    """Return the schema version; 0 = there are no tables yet. Changes nothing.

    Raises ConfigurationError if the file belongs to a newer version or to another program.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise ConfigurationError(
            f"the store has schema version {version}, this program knows {VERSION}: run a newer version"
        )
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
        raise ConfigurationError(
            "the file is an SQLite database of another program: set `store` to another path"
        )
    return int(version)


def migrate(connection: sqlite3.Connection) -> None:
    """Create the tables, or those that an older version lacks; runs inside a write transaction.

    Raises ConfigurationError if the file belongs to a newer version or to another program.
    """
    version = require_own(connection)
    if version == VERSION:
        return
    steps = {
        0: (*_TABLES, *_SECOND, *_THIRD, *_FOURTH),
        1: (*_SECOND, *_FROM_FIRST, *_THIRD, *_FOURTH),
        2: (*_THIRD, *_FOURTH),
        3: _FOURTH,
    }[version]
    for statement in (*steps, f"PRAGMA user_version = {VERSION}"):
        connection.execute(statement)
