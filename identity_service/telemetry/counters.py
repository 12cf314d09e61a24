"""Counts and durations that any thread adds to at little cost, and that are summed up when they are read.

The module imports the standard library only, so that every package may count with it.
"""

import itertools
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

BOUNDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""The upper bounds of the buckets of a histogram, in seconds.

From 5 ms on they are the default bounds of Prometheus' libraries; below, Verify needs finer ones.
"""


class Counter:
    """A count that only grows."""

    __slots__ = ("_added", "_lock", "_reads", "increment")

    def __init__(self) -> None:
        # `next` of an `itertools.count` is one step of the interpreter, so threads need no lock.
        self.increment = itertools.count().__next__
        """Add one."""
        self._lock = threading.Lock()
        self._added = self._reads = 0

    def add(self, number: int) -> None:
        """Add a number."""
        with self._lock:
            self._added += number

    @property
    def value(self) -> int:
        """Return the count."""
        with self._lock:
            self._reads += 1
            # A read increments as well, and returns the number of all increments before it.
            return self.increment() - (self._reads - 1) + self._added


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """The sum of the durations of events, and their number by duration."""

    buckets: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    """The number of events in each bucket alone; the last one is for those above every bound."""
    sum: float = 0.0
    """The sum of the durations, in seconds."""

    @property
    def count(self) -> int:
        """Return the number of events."""
        return sum(self.buckets)

    def __add__(self, other: "Histogram") -> "Histogram":
        buckets = tuple(map(int.__add__, self.buckets, other.buckets))
        return Histogram(buckets=buckets, sum=self.sum + other.sum)


class Durations:
    """The durations of events of one kind. They are kept one by one until `read` sorts them into buckets."""

    __slots__ = ("_buckets", "_lock", "_pending", "_sum", "add")

    def __init__(self) -> None:
        self._pending: deque[float] = deque()
        # `append` of a deque is one step of the interpreter, so threads need no lock.
        self.add = self._pending.append
        """Add the duration of one event, in seconds."""
        self._lock = threading.Lock()
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def read(self) -> Histogram:
        """Return what was added until now."""
        with self._lock:
            for _ in range(len(self._pending)):
                seconds = self._pending.popleft()
                self._buckets[bisect_left(BOUNDS, seconds)] += 1
                self._sum += seconds
            return Histogram(buckets=tuple(self._buckets), sum=self._sum)


class DurationsByLabels(dict[tuple[str, ...], Durations]):
    """The durations of events of several kinds, by the values of their labels; a new kind begins empty.

    They take memory until they are read, so a thread of the service reads them all the time.
    """

    def __init__(self, *names: str) -> None:
        """Count no events yet; `names` are the names of the labels."""
        super().__init__()
        self.names = names

    def __missing__(self, labels: tuple[str, ...]) -> Durations:
        return self.setdefault(labels, Durations())

    def read(self) -> Mapping[tuple[str, ...], Histogram]:
        """Return what was added until now, by the values of the labels."""
        return {labels: durations.read() for labels, durations in list(self.items())}
