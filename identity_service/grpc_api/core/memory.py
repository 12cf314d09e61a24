"""Returns memory that the process has freed to the operating system.

The C library keeps freed memory for later use. After clients have sent hundreds of megabytes of requests that
were abandoned, the process would keep its size, and the system might kill it for that.
"""

import ctypes
from collections.abc import Callable
from typing import Final

_INTERVAL: Final = 5.0
"""The shortest time between two trims, in seconds; each trim takes some milliseconds."""
_TRIM_PERIOD: Final = 12.0
"""The number of seconds after the last `note` in which memory is trimmed: gRPC's core frees the bytes of a
call after its end."""


class FreedMemory:
    """A trimmer that returns freed memory to the system for a while after `note`.

    One thread calls `release`; any thread calls `note`.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
        """The function `malloc_trim` of glibc; None with another C library."""
        self._until = self._next = 0.0

    def note(self) -> None:
        """Record that much memory may have been freed, or will be soon."""
        self._until = self._monotonic() + _TRIM_PERIOD

    def release(self) -> bool:
        """Return freed memory to the system; return whether this call did so.

        Does so at most every 5 s, until 12 s after the last `note`.
        """
        now = self._monotonic()
        if now > self._until or now < self._next or self._trim is None:
            return False
        self._next = now + _INTERVAL
        self._trim(0)
        return True
