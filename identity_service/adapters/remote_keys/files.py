"""Reads files that other programs keep up to date: whole, bounded, and without waiting for a writer."""

import os
from pathlib import Path

from identity_service.process.file_access import irregular

FileState = tuple[int, ...]
"""The device, inode, modification time (ns) and size of a file. If the file is replaced or written, at least
one of them changes."""


def state_of(stat: os.stat_result) -> FileState:
    """Return the state of a file. Raises ValueError if it is not a regular file."""
    if irregular(stat):
        raise ValueError("it is not a regular file; name one")
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size


def read_file(path: Path, max_bytes: int) -> tuple[bytes, FileState]:
    """Return content and state of a file. Raises OSError; ValueError if it is not regular, or too long."""
    with open(path, "rb", opener=_open_at_once) as file:
        state = state_of(os.fstat(file.fileno()))
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it is longer than {max_bytes} bytes")
    return content, state


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without blocking: opening a named pipe would block the caller until it has a writer."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
