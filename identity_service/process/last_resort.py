"""The last resort: a process that was ordered to stop ends at a set time, whatever hangs in it.

The times are seconds beyond `drain_grace`, from the innermost process outwards, so that each process still
sees how the inner one ended. None is later than `drain_grace` + 5 s, `_NATIVE` included.
"""

import faulthandler
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

from identity_service.process.exit_codes import Exit
from identity_service.telemetry import logs

INSIDE: Final = 1.25
"""The service inside Envoy."""
SERVING: Final = 2.5
"""A process that serves: alone, as a worker, or beside Envoy."""
SUPERVISING: Final = 4.25
"""The parent of workers."""
BETWEEN: Final = 0.75
"""How long after an inner process's last resort the outer process kills that."""
ORPHANED_GRACE: Final = timedelta(seconds=0.25)
"""What `drain_grace` is at most for a process whose parent has ended."""
_NATIVE: Final = 0.75
"""How long after that a thread in C ends the process: only if the last resort itself cannot run."""
_STEP: Final = 0.5
"""How long one of its last steps may take: a write to a log that is not read blocks."""


class LastResort:
    """Ends this process some time after it was armed, with one line of the log, and with `Exit.FORCED`.

    It needs nothing but the interpreter's lock. If native code holds that for ever, or if the interpreter
    hangs while it ends, a thread that needs no lock ends the process a moment later, with `Exit.FAILED` and
    with where each thread was. (Not SIGALRM: the first process of a container ignores it.)
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._end: float | None = None
        """When, by the steady clock; None = not armed."""
        self._changed = threading.Condition()
        self._before: list[Callable[[], None]] = []
        # Now, since a process that hangs may not be able to start a thread.
        threading.Thread(target=self._run, name="identity-last-resort", daemon=True).start()

    def before_end(self, clean_up: Callable[[], None]) -> None:
        """Call this before the process is ended; it must be quick, and is not waited for if it is not."""
        self._before.append(clean_up)

    def arm(self, seconds: float) -> None:
        """End the process in so many seconds. Any thread may call it; the earliest end counts."""
        end = time.monotonic() + seconds
        with self._changed:
            if self._end is not None and self._end <= end:
                return
            self._seconds, self._end = seconds, end
            self._changed.notify()
            with suppress(OSError, RuntimeError):  # the system has no room for one more file or thread
                file = _stderr_that_never_blocks()
                faulthandler.dump_traceback_later(seconds + _NATIVE, exit=True, file=file)

    def _run(self) -> None:
        with self._changed:
            while (left := self._left()) > 0:
                self._changed.wait(None if left == math.inf else left)
        try:
            for step in [*self._before, self._say]:
                _do_within(step, _STEP)
        finally:
            os._exit(Exit.FORCED)

    def _left(self) -> float:
        return math.inf if self._end is None else self._end - time.monotonic()

    def _say(self) -> None:
        own = ("identity-last-resort", "identity-last-step", "identity-log", "identity-signals")
        busy = sorted({thread.name for thread in threading.enumerate()}.difference(own))
        with suppress(OSError):
            logs.write_error("stop_forced", threads=busy, seconds=self._seconds)


def _do_within(step: Callable[[], None], seconds: float) -> None:
    thread = threading.Thread(target=step, name="identity-last-step", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the system has no room for another thread
        step()
    else:
        thread.join(seconds)


def _stderr_that_never_blocks() -> int:
    """Open standard error anew for writes that fail if nothing reads; if it cannot be opened, nothing."""
    try:
        return os.open("/dev/stderr", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # a socket
        return os.open(os.devnull, os.O_WRONLY)
