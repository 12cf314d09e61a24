"""Upgrading a store that an older version wrote: only when no process of that version is left.

Knows no database. What fences a process that is paused meanwhile is up to each store.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from identity_service.domain.errors import ConfigurationError

_WATCHED: Final = 2.0
"""Seconds: four heartbeats of a process with the default settings."""
_POLL: Final = 0.1


def require_stopped(read: Callable[[], Mapping[str, object]]) -> None:
    """Raise ConfigurationError if a process of the older version still writes heartbeats.

    A process that was stopped a moment ago has left one that looks alike, so they are watched for two
    seconds. `read` gives the last heartbeat of each process; none at all = there is nothing to wait for.
    """
    before = read()
    deadline = time.monotonic() + _WATCHED
    while before and time.monotonic() < deadline:
        time.sleep(_POLL)
        now = read()
        alive = sorted(process for process, beat in now.items() if before.get(process) != beat)
        if alive:
            raise ConfigurationError(
                f"the store was written by an older version, and its process {alive[0]} still writes "
                "heartbeats to it: stop every process of that version, then start this one"
            )
