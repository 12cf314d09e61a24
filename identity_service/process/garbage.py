"""The garbage collector of Python in a process that serves calls."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Final

_NEW_OBJECTS: Final = 50_000
"""The number of new objects after which the collector looks for reference cycles, instead of 700."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Have the collector skip the block, which imports modules, and then skip the objects made in it.

    Collections meanwhile, and one at its end, would take a sixth of the CPU time of the start, and find a few
    hundred objects.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def imported(name: str) -> ModuleType:
    """Return the module of this name; if it was not imported before, import it as `uncollected` says."""
    if (found := sys.modules.get(name)) is not None:
        return found
    with uncollected():
        return import_module(name)


def skip_lasting_objects() -> None:
    """Have the collector skip the objects that exist now.

    Call it when the service has started: its objects live as long as the process. While they were traversed,
    each collection of all objects held up all calls for 10 to 20 ms (bar S16).
    """
    gc.freeze()


def collect_seldom() -> None:
    """Have the collector run less often than by default, in a process whose calls leave no reference cycles.

    When a client opened 4,500 calls at once, the collector took 40 % of the time for which the calls of other
    clients waited (bar S15). `tests/rpc/test_cycles.py` finds calls that leave a cycle. On grpcio such a call
    would also count toward the streams of its connection until the cycle is collected, so that gRPC's core
    refuses further ones.
    """
    gc.set_threshold(_NEW_OBJECTS)
