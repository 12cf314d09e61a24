"""Notices of entries that any process has appended to the log of one SQLite file, without polling the file.

A process that has appended entries sets the mode of the file to the mode that it has already, and the kernel
notifies the other processes (inotify(7)). SQLite itself has no such notice. If the system refuses one of the
two, waiting threads poll, and an event in the log names the reason.
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

from identity_service.domain.ports import EventLog
from identity_service.storage.sqlite.connection import POLL

_ATTRIBUTES: Final = 0x4
"""`IN_ATTRIB`: the times, owner or permissions of a file were set."""
_BUFFER: Final = 4096
"""The number of bytes of notices that are read at once; the next read gets the others."""


class Appends:
    """The appends that one process knows of, for its waiting threads. Any thread may call any method."""

    def __init__(self) -> None:
        """Begin without a file, as for a private database, which no other process has."""
        self._is_shared = False
        self._changed = threading.Condition()
        self._closed = False
        self._file: _OpenFile | None = None
        self._watch: _FileWatch | None = None
        self._watching = False
        """True if a thread waits for the kernel; others wait until that thread notifies them."""
        self.count = 0
        """A number that grows with each append that this process knows of."""

    def watch(self, path: Path, event_log: EventLog | None = None) -> None:
        """Watch this file, which exists, for appends of other processes.

        If that is not possible, or this process cannot notify the others, `wait` polls, and the event
        `store_polled` says why.
        """
        self._is_shared = True
        what, fix = f"the mode of {path} cannot be set", "run every process as the user that owns the file"
        try:
            self._file = _OpenFile(path)
            self._file.notify()  # a trial: it wakes other processes up once
            what, fix = "inotify cannot be used", "raise the limits fs.inotify.max_user_* with sysctl"
            self._watch = _FileWatch(self._file.name)
        except AttributeError:
            what, fix = "this system has no inotify", "run the service on Linux"
        except OSError as error:
            what = f"{what}: {error.strerror}"
        if self._watch is None and event_log is not None:
            event_log.record("store_polled", what=what, fix=fix)

    def announce(self) -> None:
        """Notify the waiting threads of this process and of the others that entries were appended."""
        with self._changed:
            self.count += 1
            self._changed.notify_all()
            # A process that misses the notice reads the log once in each heartbeat interval all the same.
            if self._file is not None:
                with suppress(OSError):
                    self._file.notify()

    def wait(self, seen: int, timeout: float) -> None:
        """Return once `count` is not `seen` or `close` was called, or after `timeout` seconds.

        Returns every 5 ms if this process has to poll.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while self.count == seen and not self._closed and (left := deadline - time.monotonic()) > 0:
                if not self._is_shared or self._watching:
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
            if self._file is not None:
                self._file.close()
                self._file = None


class _OpenFile:
    """The file that was at a path, by a descriptor that gives no access to its content.

    Another file that is put at the path later is never touched: between two calls by the path, its mode could
    be given to a file that a symbolic link there names. Closing such a descriptor drops no lock of SQLite.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises AttributeError on a system without such descriptors, OSError."""
        self._descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        self.name = Path(f"/proc/self/fd/{self._descriptor}")
        """A path that leads to this very file."""

    def notify(self) -> None:
        """Set the mode of the file to its present value: the kernel notifies each process that watches it.

        Not its times: if they change, its content is checked (`ContentCheck`). Raises OSError if this process
        is not the owner of the file.
        """
        self.name.chmod(stat.S_IMODE(os.fstat(self._descriptor).st_mode))

    def close(self) -> None:
        """Close the descriptor; `notify` must not be called any more."""
        os.close(self._descriptor)


class _FileWatch:
    """A watch by inotify(7) on the mode of one file, even while it has another name."""

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
