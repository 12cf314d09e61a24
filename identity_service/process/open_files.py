"""How many files and connections the system lets this process have open."""

from typing import Final

from identity_service.domain.ports import EventLog

_BESIDE: Final = 256
"""Open files beside the connections of clients: the store, logs, pipes of processes that hash passwords."""


def allow(connections: int, event_log: EventLog) -> None:
    """Raise this process's limit of open files so that it can hold so many connections.

    It can be raised up to the hard limit only. If that is less, the event `files_limited` says how many there
    may be, and further connections wait until others are closed.
    """
    try:
        import resource
    except ImportError:  # no POSIX system
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _BESIDE
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    except (ValueError, OSError):  # a system with a lower limit of its own, as macOS has
        allowed = soft
    if allowed < connections:
        event_log.record("files_limited", max_connections=connections, open_files=allowed)
