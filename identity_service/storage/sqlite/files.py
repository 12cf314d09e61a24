"""The three files of an SQLite database: which they are, and the locks that keep SQLite from harming them.

A process keeps using files that were removed or replaced: what it commits then is read by nobody else. Owns
how that is seen. Opens no database. Nothing here opens and closes the file itself while a connection needs
its locks: on POSIX, closing any descriptor of a file drops every lock that the process has on it.
"""

import fcntl
import os
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from identity_service.domain.errors import ConfigurationError, StoreUnavailableError
from identity_service.process.file_access import (
    irregular,
    is_read_only,
    may_read_and_write,
    permissions_of,
)

_POLL: Final = 0.005
_SHARED_FIRST: Final = 0x40000000 + 2
_SHARED_SIZE: Final = 510
"""The bytes of the file whose locks say that SQLite uses it; see `os.h` of SQLite."""
_LOCK: Final = "hhqqi4x"
"""`struct flock` of Linux on 64 bits."""


class FileId(NamedTuple):
    device: int
    inode: int


class FileIds(NamedTuple):
    """Which files lie at the paths; None = there is none."""

    main: FileId | None
    wal: FileId | None
    """The write-ahead log, `-wal`."""
    shm: FileId | None
    """The shared memory through which processes find what is in the log and lock it, `-shm`."""


def file_ids(path: str) -> FileIds:
    return FileIds(_id_of(path), _id_of(f"{path}-wal"), _id_of(f"{path}-shm"))


def _id_of(path: str) -> FileId | None:
    try:
        status = os.stat(path)  # noqa: PTH116  # six times for each write, and half the time of Path's
    except OSError:
        return None
    return FileId(status.st_dev, status.st_ino)


def create_private(path: Path) -> None:
    """Make the file if there is none, readable by its owner only; SQLite's other files follow it.

    What exists stays as it is: a path that was mistyped may name a file of another program. No file is
    opened: closing it would drop the locks that this process has on it.

    Raises ConfigurationError: the path, or that of SQLite's files beside it, names no regular file; OSError.
    """
    for name in _all_of(path):
        with suppress(FileNotFoundError):
            if kind := irregular(name.stat()):
                raise ConfigurationError(
                    f"store: {name} is {kind}, and a store is a regular file; name another path"
                )
    with suppress(FileExistsError):
        path.touch(mode=0o600, exist_ok=False)


def leave_to_owner(path: Path) -> None:
    """Take the permissions of others from a database, once it is known to be one of this program.

    Raises ConfigurationError: others may read or write it, and only its owner may change that; OSError.
    """
    for name in _all_of(path):
        with suppress(FileNotFoundError):
            _take_from_others(name)


def why_not_opened(path: Path) -> str:
    """Return which file of a database this process may not use, and what to do; empty if it may use all."""
    if is_read_only(path.parent):
        return f"the file system of {path.parent} is read-only; mount a volume there that takes writes"
    for name in _all_of(path):
        if (permissions := permissions_of(name)) and not may_read_and_write(name):
            return (
                f"this process may not read and write {name}: {permissions}. Run "
                f"`chown {os.geteuid()} {path}*` as root, or run the process as the user that owns it"
            )
    if not may_read_and_write(path.parent):
        return f"this process may not write to the folder {path.parent}: {permissions_of(path.parent)}"
    return ""


def _all_of(path: Path) -> tuple[Path, ...]:
    return (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")))


def _take_from_others(path: Path) -> None:
    """Leave a file to its owner. One of another owner may stay open to a group of this process."""
    mode = path.stat().st_mode
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return
    try:
        path.chmod(stat.S_IMODE(mode) & ~(stat.S_IRWXG | stat.S_IRWXO))
    except PermissionError:
        if mode & stat.S_IRWXO:
            raise ConfigurationError(
                f"store: others may read or write {path}, and this user may not change that; "
                f"run `chmod o= {path}` as its owner"
            ) from None


@contextmanager
def directory_locked(path: Path, timeout: float, *, alone: bool) -> Iterator[None]:
    """Hold a lock of the file's directory, which processes of this program take when they open the file.

    `alone` keeps the others from opening it meanwhile. Raises StoreUnavailableError where another process
    holds the lock for `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StoreUnavailableError("another process is opening the store; try again") from None
                time.sleep(_POLL)
        try:
            yield
        finally:
            # By itself: a process that was forked meanwhile has the descriptor, too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


@contextmanager
def not_the_last(path: Path) -> Iterator[None]:
    """Keep SQLite from taking this process for the last one that uses the file while it closes it.

    The last one writes its log into the file, and removes whatever log lies at the path, which may be that of
    another process by now. A lock of an open file description counts as another process. Elsewhere than
    on Linux there is none, and nothing is kept.
    """
    if not hasattr(fcntl, "F_OFD_SETLK"):
        yield
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        _lock_shared(descriptor, fcntl.F_RDLCK)
        try:
            yield
        finally:
            _lock_shared(descriptor, fcntl.F_UNLCK)
    finally:
        os.close(descriptor)


def _lock_shared(descriptor: int, kind: int) -> None:
    lock = struct.pack(_LOCK, kind, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
