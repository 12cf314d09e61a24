"""The three files of an SQLite database: their identity, and locks that keep SQLite from harming them.

A process keeps using files that were removed or replaced, and no other process reads what it commits then.
This module detects that. It opens no database. Nothing here opens and closes the database file while a
connection needs its locks: on POSIX, closing any descriptor of a file drops every lock that the process has
on it.
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
from identity_service.process.file_access import irregular, is_read_only, may_read_and_write, permissions_of

_POLL: Final = 0.005
"""Seconds between two attempts to lock."""
_SHARED_FIRST: Final = 0x40000000 + 2
_SHARED_SIZE: Final = 510
"""The bytes whose locks mark the file as in use by SQLite; see `os.h` of SQLite."""
_LOCK: Final = "hhqqi4x"
"""The layout of `struct flock` on 64-bit Linux."""


class FileId(NamedTuple):
    """The identity of a file: its device and inode numbers."""

    device: int
    inode: int


class FileIds(NamedTuple):
    """The identities of the three files that are at the paths; None = there is no file."""

    main: FileId | None
    wal: FileId | None
    """The write-ahead log, `-wal`."""
    shm: FileId | None
    """The `-shm` file: the shared memory by which processes find entries of the log, and lock it."""


def file_ids(path: str) -> FileIds:
    """Return the identities of the database file and of its `-wal` and `-shm` files."""
    return FileIds(_id_of(path), _id_of(f"{path}-wal"), _id_of(f"{path}-shm"))


def _id_of(path: str) -> FileId | None:
    """Return the identity of the file at this path; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116  # called six times per write; half the time of Path.stat
    except OSError:
        return None
    return FileId(status.st_dev, status.st_ino)


def create_private(path: Path) -> None:
    """Create the file if there is none, readable by its owner only.

    SQLite gives its other files the same mode. An existing file is left as it is: a mistyped path may name a
    file of another program. No file is opened, because closing it would drop the locks that this process has
    on it.

    Raises OSError, and ConfigurationError if the path, or that of a file of SQLite beside it, is not that of
    a regular file.
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
    """Remove the permissions of other users from a database, once it is known to belong to this program.

    Raises ConfigurationError if others may read or write it and only its owner may change that; OSError.
    """
    for name in _all_of(path):
        with suppress(FileNotFoundError):
            _restrict_to_owner(name)


def why_not_opened(path: Path) -> str:
    """Return the name of a file of the database that this process may not use, with the remedy; or ""."""
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
    """Return the paths of the database file and of SQLite's files beside it."""
    return (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")))


def _restrict_to_owner(path: Path) -> None:
    """Remove the permissions of group and others from a file.

    A file of another owner may stay open to a group of this process. Raises ConfigurationError if it is open
    to others.
    """
    mode = path.stat().st_mode
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return
    try:
        path.chmod(stat.S_IMODE(mode) & ~(stat.S_IRWXG | stat.S_IRWXO))
    except PermissionError:
        if mode & stat.S_IRWXO:
            raise ConfigurationError(
                f"store: other users may read or write {path}, and this user may not change that; "
                f"run `chmod o= {path}` as its owner"
            ) from None


@contextmanager
def directory_locked(path: Path, timeout: float, *, alone: bool) -> Iterator[None]:
    """Hold a lock on the file's directory, which processes of this program take to open it.

    With `alone`, no other process may open the file meanwhile. Raises StoreUnavailableError if another
    process holds the lock for `timeout` seconds.
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
            # Unlocked explicitly: a process that was forked meanwhile keeps the descriptor open.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


@contextmanager
def not_the_last(path: Path) -> Iterator[None]:
    """Keep SQLite from taking this process for the last user of the file while it closes the file.

    The last user writes its log into the file and removes any log at the path, which by now may belong to
    another process. A lock of an open file description (`F_OFD_SETLK`) looks to SQLite like another process.
    Systems other than Linux lack such locks, and there this does nothing.
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
    """Set or clear the lock by which SQLite marks a file as in use."""
    lock = struct.pack(_LOCK, kind, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
