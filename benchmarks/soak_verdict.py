"""Samples a process during a soak, and decides whether its memory stays flat.

The first third of the calls does not count, because caches fill and pools grow in it. Over the rest, memory
is flat if the Theil-Sen slope (the median of the slopes of all pairs of samples, which outliers do not move)
is at most `MOST_GROWTH`, and descriptors and threads are constant if their maximum in the last third is not
above that in the second third.
"""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

from benchmarks.processes import children

MOST_GROWTH: Final = 5.0
"""The largest growth in MB for a million calls; the samples of one run differ by as much."""
_ENOUGH: Final = 200_000
"""The number of calls below which there is no verdict, since the caches are hardly full."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sample of the server with all its processes, after a number of calls."""

    calls: int
    seconds: float
    rss_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on the samples; None = there were too few calls."""

    growth: float | None
    """Growth of memory, in MB for a million calls."""
    memory_flat: bool | None
    descriptors_constant: bool | None
    threads_constant: bool | None

    @property
    def good(self) -> bool:
        return False not in (self.memory_flat, self.descriptors_constant, self.threads_constant)


def take(pid: int, calls: int, seconds: float) -> Sample:
    """Take a sample of a process and all processes that it started (proc_pid_statm(5))."""
    family = _family(pid)
    return Sample(
        calls=calls,
        seconds=round(seconds, 2),
        rss_bytes=sum(int(_read(one, "statm").split()[1]) * _PAGE for one in family),
        descriptors=sum(_count(one, "fd") for one in family),
        threads=sum(_count(one, "task") for one in family),
    )


def judge(samples: Sequence[Sample], most_growth: float = MOST_GROWTH) -> Verdict:
    """Judge samples, which are in the order of their calls."""
    if samples[-1].calls < _ENOUGH:
        return Verdict(growth=None, memory_flat=None, descriptors_constant=None, threads_constant=None)
    all_calls = samples[-1].calls
    second = [sample for sample in samples if all_calls / 3 <= sample.calls < all_calls * 2 / 3]
    third = [sample for sample in samples if sample.calls >= all_calls * 2 / 3]
    growth = _slope([*second, *third])
    return Verdict(
        growth=round(growth, 2),
        memory_flat=growth <= most_growth,
        descriptors_constant=max(s.descriptors for s in third) <= max(s.descriptors for s in second),
        threads_constant=max(s.threads for s in third) <= max(s.threads for s in second),
    )


def _slope(samples: Sequence[Sample]) -> float:
    return statistics.median(
        (later.rss_bytes - earlier.rss_bytes) / (later.calls - earlier.calls)
        for earlier, later in combinations(samples, 2)
        if later.calls > earlier.calls
    )


def _family(pid: int) -> list[int]:
    return [pid, *(one for child in children(pid) for one in _family(child))]


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def _count(pid: int, name: str) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/{name}").iterdir())
