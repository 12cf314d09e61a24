"""Gives memory that the process has freed back to the system.

The C library keeps what was freed for later use. After clients have sent hundreds of megabytes of bodies that
were given up, the process would stay as large as it was then, and might be ended for it.
"""

import ctypes
from collections.abc import Callable
from typing import Final

_INTERVAL: Final = 5.0
"""Seconds between two times at least: each takes some milliseconds."""


class FreedMemory:
    """Gives memory back some time after it was freed. One thread calls `give_back`, any thread the other."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
        """Of glibc; None with another C library."""
        self._freed = False
        self._next = 0.0

    def note(self) -> None:
        """Note that much may have been freed, or will be at once."""
        self._freed = True

    def give_back(self) -> bool:
        """Give back what was freed since the last time, at most every 5 s; returns whether it did."""
        now = self._monotonic()
        if not self._freed or self._trim is None or now < self._next:
            return False
        self._freed = False
        self._next = now + _INTERVAL
        self._trim(0)
        return True
