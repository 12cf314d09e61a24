"""Heartbeats as rows: when each process last wrote one, and how it saw its clock and the store.

Every function runs inside a transaction of the caller.
"""

import sqlite3
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.log import Heartbeat
from identity_service.storage.codec import moment, seconds

_REMEMBERED: Final = timedelta(hours=1)


def write(connection: sqlite3.Connection, process: str, status: str, now: datetime) -> None:
    """Write the heartbeat of a process, and delete those that are older than an hour."""
    connection.execute("DELETE FROM beats WHERE time <= ?", (seconds(now - _REMEMBERED),))
    connection.execute(
        "INSERT OR REPLACE INTO beats (process, time, status) VALUES (?, ?, ?)",
        (process, seconds(now), status),
    )


def read(connection: sqlite3.Connection, now: datetime) -> tuple[Heartbeat, ...]:
    """Return the heartbeats of the last hour, the latest first."""
    rows = connection.execute(
        "SELECT process, time, status FROM beats WHERE time > ? ORDER BY time DESC",
        (seconds(now - _REMEMBERED),),
    )
    return tuple(
        Heartbeat(process=process, time=moment(time), status=status) for process, time, status in rows
    )
