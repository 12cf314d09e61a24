"""Gives memory that the process has freed back to the system.

The C library keeps what was freed for later use. After clients have sent hundreds of megabytes of bodies that
were given up, the process would stay as large as it was then, and might be ended for it.
"""

import ctypes
from collections.abc import Callable
from typing import Final

_INTERVAL: Final = 5.0
"""Seconds between two times at least: each takes some milliseconds."""
_AGAIN: Final = 12.0
"""Seconds after the last note while it goes on: gRPC's core frees the bytes of a call after its end."""


class FreedMemory:
    """Gives memory back for some time after it was freed. One thread calls `give_back`, any thread `note`."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
        """Of glibc; None with another C library."""
        self._until = self._next = 0.0

    def note(self) -> None:
        """Note that much may have been freed, or will be soon."""
        self._until = self._monotonic() + _AGAIN

    def give_back(self) -> bool:
        """Give back what was freed, every 5 s until 12 s after the last note; returns whether it did."""
        now = self._monotonic()
        if now > self._until or now < self._next or self._trim is None:
            return False
        self._next = now + _INTERVAL
        self._trim(0)
        return True
