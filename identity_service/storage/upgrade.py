"""Waiting until no process uses a store any more: before it is upgraded, and before it is replaced.

Knows no database. What fences a process that is paused meanwhile is up to each store.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from identity_service.domain.errors import ConfigurationError

WATCHED: Final = 2.0
"""Seconds: four heartbeats of a process with the default settings."""
_POLL: Final = 0.1


def _of_older_version(process: str) -> str:
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

    A process that was stopped a moment ago has left one that looks alike, so they are watched for a while.

    Args:
        read: gives the last heartbeat of each process; none at all = there is nothing to wait for.
        problem: says what is wrong, and what to do, if this process writes heartbeats.
        watched: seconds.
    """
    before = read()
    deadline = time.monotonic() + watched
    while before and time.monotonic() < deadline:
        time.sleep(_POLL)
        now = read()
        alive = sorted(process for process, heartbeat in now.items() if before.get(process) != heartbeat)
        if alive:
            raise ConfigurationError(problem(alive[0]))
