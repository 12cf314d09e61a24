"""Checks that no process uses a store any more, before the store is upgraded or replaced.

The module knows no database. Each store has its own way to fence off a process that is paused during the
check.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from identity_service.domain.errors import ConfigurationError

WATCHED: Final = 2.0
"""The number of seconds for which heartbeats are watched: four intervals with the default settings."""
_POLL: Final = 0.1
"""Seconds between two reads of the heartbeats."""


def _of_older_version(process: str) -> str:
    """Return the error text for a process of an older version that still runs."""
    return (
        f"the store was written by an older version, and its process {process} still writes heartbeats to "
        "it: stop every process of that version, then start this one"
    )


def require_stopped(
    read: Callable[[], Mapping[str, object]],
    problem: Callable[[str], str] = _of_older_version,
    *,
    watched: float = WATCHED,
) -> None:
    """Raise ConfigurationError if a process still writes heartbeats.

    The last heartbeat of a process that has just stopped looks like that of a running one, so the heartbeats
    are watched for a while.

    Args:
        read: returns the last heartbeat of each process; if there is none at all, the check ends at once.
        problem: returns the error text for a process that writes heartbeats.
        watched: the time to watch, in seconds.
    """
    before = read()
    deadline = time.monotonic() + watched
    while before and time.monotonic() < deadline:
        time.sleep(_POLL)
        now = read()
        alive = sorted(process for process, heartbeat in now.items() if before.get(process) != heartbeat)
        if alive:
            raise ConfigurationError(problem(alive[0]))
