"""The limit of open files and connections of this process."""

from typing import Final

from identity_service.domain.ports import EventLog

_OTHER_FILES: Final = 256
"""The number of open files besides client connections: the store, logs, pipes of child processes that hash
passwords."""


def allow(connections: int, event_log: EventLog) -> None:
    """Raise this process's limit of open files so that it can hold this many client connections.

    It can be raised up to the hard limit only. If the hard limit is too low, the event `files_limited` is
    recorded, and further connections wait until others are closed.
    """
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    except (ValueError, OSError):  # the system has a lower limit of its own, such as macOS
        allowed = soft
    if allowed < connections:
        event_log.record("files_limited", max_connections=connections, open_files=allowed)
