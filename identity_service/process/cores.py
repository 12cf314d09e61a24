"""The cores that a process may use, and those of workers.

One worker computes on one core at a time, since its threads share the interpreter's lock. If the system moves
these threads between cores, they wait for each other more often: with two workers on two cores, a worker that
stays on one core answered a quarter more calls (`docs/decisions/0033`).
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


def of_workers(count: int) -> Sequence[int]:
    """Return a core for each of so many workers; empty if there are not just as many cores.

    With fewer workers than cores, a worker can use a second core for what needs no lock, such as signatures.
    """
    if sys.platform != "linux":
        return ()
    cores = sorted(os.sched_getaffinity(0))
    return cores if len(cores) == count else ()


def available() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Let the processes that this thread starts in the block run on this core only; None = on any.

    If the system does not allow the core any more, they run on any.
    """
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, before)
