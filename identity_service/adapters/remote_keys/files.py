"""Files that something else keeps up to date: read whole, bounded, and without waiting for a writer."""

import os
from pathlib import Path
from stat import S_ISREG

FileState = tuple[int, ...]
"""Of a file at one moment: a file that was replaced has another inode or another time."""


def state_of(stat: os.stat_result) -> FileState:
    """Tell this state of a file from others. Raises ValueError if it is no regular file."""
    if not S_ISREG(stat.st_mode):
        raise ValueError("it is no regular file; name one")
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size


def read_file(path: Path, max_bytes: int) -> tuple[bytes, FileState]:
    """Read a regular file. Raises OSError, and ValueError for another kind of file and a longer one."""
    with open(path, "rb", opener=_open_at_once) as file:
        state = state_of(os.fstat(file.fileno()))
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it is longer than {max_bytes} bytes")
    return content, state


def _open_at_once(path: str, flags: int) -> int:
    """To open a named pipe waits for a writer, and every caller with it; this does not."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
