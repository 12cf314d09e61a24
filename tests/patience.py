"""The deadline for events that tests await from another thread or process.

Reaching the deadline means only that a test hangs: no working machine is so busy that it takes as long. The
benchmarks measure speed, on a machine that does nothing else.
"""

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 120.0
"""Seconds."""
_POLL: Final = 0.01


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Return once the condition holds. Raises TimeoutError if it does not come true."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come true in {patience} s")
        time.sleep(_POLL)
