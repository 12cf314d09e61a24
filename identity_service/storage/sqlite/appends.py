"""Notices of entries that any process has appended to the log of one SQLite file, without polling the file.

A process that has appended entries sets the mode of the file to what it is, and the kernel notifies the other
processes (inotify(7)). SQLite itself has no such notice. Where inotify cannot be used, waiting threads poll.
"""

import ctypes
import os
import select
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from identity_service.storage.sqlite.connection import POLL

_ATTRIBUTES: Final = 0x4
"""`IN_ATTRIB`: the times, owner or permissions of a file were set."""
_BUFFER: Final = 4096
"""The number of bytes of notices that are read at once; the next read gets the others."""


class Appends:
    """The appends that one process knows of, for its waiting threads. Any thread may call any method."""

    def __init__(self) -> None:
        """Begin without a file, as for a private database, which no other process has."""
        self._path: Path | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._watch: _FileWatch | None = None
        self._watching = False
        """True if a thread waits for the kernel; others wait until that thread notifies them."""
        self.count = 0
        """A number that grows with each append that this process knows of."""

    def watch(self, path: Path) -> None:
        """Watch this file, which exists, for appends of other processes."""
        self._path = path
        with suppress(AttributeError, OSError):  # no Linux, or the user has too many watches: `wait` polls
            self._watch = _FileWatch(path)

    def announce(self) -> None:
        """Notify the waiting threads of this process and of the others that entries were appended."""
        with self._changed:
            self.count += 1
            self._changed.notify_all()
        if self._path is not None:
            # A process that misses the notice reads the log once in each heartbeat interval all the same.
            # Not the times of the file: if they change, its content is checked (`ContentCheck`).
            with suppress(OSError):
                self._path.chmod(stat.S_IMODE(self._path.stat().st_mode))

    def wait(self, seen: int, timeout: float) -> None:
        """Return once `count` is not `seen` or `close` was called, or after `timeout` seconds.

        Returns every 5 ms if this process has to poll.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while self.count == seen and not self._closed and (left := deadline - time.monotonic()) > 0:
                if self._path is None or self._watching:
                    self._changed.wait(left)
                elif self._watch is not None:
                    self._await_kernel(self._watch, left)
                else:
                    self._changed.wait(min(POLL, left))
                    return

    def _await_kernel(self, watch: "_FileWatch", timeout: float) -> None:
        """Wait for a notice without holding the lock, then notify the threads that wait for this one."""
        self._watching, noticed = True, False
        self._changed.release()
        try:
            noticed = watch.wait(timeout)
        finally:
            self._changed.acquire()
            self._watching = False
            self.count += noticed
            self._changed.notify_all()

    def close(self) -> None:
        """End every `wait`, and stop watching the file."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            if self._watch is not None:
                self._watch.wake()
                self._changed.wait_for(lambda: not self._watching)
                self._watch.close()


class _FileWatch:
    """A watch by inotify(7) on the mode of one file, also while it has another name."""

    def __init__(self, path: Path) -> None:
        """Begin to watch. Raises AttributeError on a system without inotify, OSError if it is refused."""
        system = ctypes.CDLL(None, use_errno=True)
        # The flags have the values of IN_NONBLOCK and IN_CLOEXEC.
        self._notices = _checked(system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            _checked(system.inotify_add_watch(self._notices, os.fsencode(path), _ATTRIBUTES))
            self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except BaseException:
            os.close(self._notices)
            raise

    def wait(self, timeout: float) -> bool:
        """Wait for a notice for at most `timeout` seconds or until `wake`; return whether there was one."""
        poll = select.poll()
        poll.register(self._notices, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        poll.poll(timeout * 1000)
        with suppress(BlockingIOError):
            return bool(os.read(self._notices, _BUFFER))
        return False

    def wake(self) -> None:
        """End the present `wait` and all later ones."""
        os.eventfd_write(self._woken, 1)

    def close(self) -> None:
        """Stop watching; no thread may be in `wait`."""
        os.close(self._notices)
        os.close(self._woken)


def _checked(result: int) -> int:
    """Return the result of a system call. Raises OSError if it has failed."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
