"""The forced end of a process that was told to stop but hangs.

The constants are seconds beyond `drain_grace`. They grow from the innermost process outwards, so that each
process still sees how the inner one ended. No process ends later than `drain_grace` + 5 s, including
`_NATIVE`.
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
"""The delay, in seconds, of the forced end of the service inside Envoy."""
SERVING: Final = 2.5
"""The delay, in seconds, of the forced end of a process that serves: alone, as a worker, or beside Envoy."""
SUPERVISING: Final = 4.25
"""The delay, in seconds, of the forced end of the supervisor of workers."""
BETWEEN: Final = 0.75
"""The seconds after the forced end of an inner process at which the outer process kills it, if it still
runs."""
ORPHANED_GRACE: Final = timedelta(seconds=0.25)
"""The upper bound of `drain_grace` for a process whose parent has ended."""
_NATIVE: Final = 0.75
"""The seconds after the forced end at which a thread in C ends the process, if the thread in Python could
not."""
_STEP: Final = 0.5
"""The longest time that one last step may take, such as a write to the log, which blocks if nothing reads
it."""


class LastResort:
    """A timer that ends this process with one line in the log and `Exit.FORCED`, if it still runs.

    Its thread needs nothing but the interpreter's lock. If native code holds the lock for ever, or if the
    interpreter hangs while it exits, a thread in C that needs no lock ends the process `_NATIVE` seconds
    later, with `Exit.FAILED` and the stack of each thread on standard error. (SIGALRM would not work: the
    first process of a container ignores it.)
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._end: float | None = None
        """The time at which the process is ended, by `time.monotonic`; None = not armed."""
        self._changed = threading.Condition()
        self._before: list[Callable[[], None]] = []
        # Started now, since a process that hangs may not be able to start a thread.
        threading.Thread(target=self._run, name="identity-last-resort", daemon=True).start()

    def before_end(self, clean_up: Callable[[], None]) -> None:
        """Register a function to call before the process is ended; it has 0.5 s."""
        self._before.append(clean_up)

    def arm(self, seconds: float) -> None:
        """End the process in this many seconds, unless it ends earlier. Any thread may call it.

        If it is called several times, the earliest end counts.
        """
        end = time.monotonic() + seconds
        with self._changed:
            if self._end is not None and self._end <= end:
                return
            self._seconds, self._end = seconds, end
            self._changed.notify()
            with suppress(OSError, RuntimeError):  # no further file or thread can be opened
                file = _stderr_that_never_blocks()
                faulthandler.dump_traceback_later(seconds + _NATIVE, exit=True, file=file)

    def _run(self) -> None:
        with self._changed:
            while (left := self._left()) > 0:
                self._changed.wait(None if left == math.inf else left)
        try:
            for step in [*self._before, self._log_event]:
                _do_within(step, _STEP)
        finally:
            os._exit(Exit.FORCED)

    def _left(self) -> float:
        return math.inf if self._end is None else self._end - time.monotonic()

    def _log_event(self) -> None:
        own = ("identity-last-resort", "identity-last-step", "identity-log", "identity-signals")
        busy = sorted({thread.name for thread in threading.enumerate()}.difference(own))
        with suppress(OSError):
            logs.write_error("stop_forced", threads=busy, seconds=self._seconds)


def _do_within(step: Callable[[], None], seconds: float) -> None:
    thread = threading.Thread(target=step, name="identity-last-step", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no further thread can be started
        step()
    else:
        thread.join(seconds)


def _stderr_that_never_blocks() -> int:
    """Open standard error for non-blocking writes, or /dev/null if standard error cannot be opened again."""
    try:
        return os.open("/dev/stderr", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # standard error is a socket
        return os.open(os.devnull, os.O_WRONLY)
