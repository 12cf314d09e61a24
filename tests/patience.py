"""The timeout for events that tests await from another thread or process.

A test reaches it only if it hangs: it is far longer than any of these events takes on a busy machine. Tests
do not measure speed; the benchmarks do, on an idle machine.
"""

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 120.0
"""Seconds."""
_POLL: Final = 0.01


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until the condition is true. Raises TimeoutError after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come true in {patience} s")
        time.sleep(_POLL)
