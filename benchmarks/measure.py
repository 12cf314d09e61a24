"""Measuring: several sides in turn, round after round, so that a machine that slows down slows all of them.

Owns what a side is and how its rounds are summed up. Knows no server and no bar.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

WARM_UP: Final = 0.5
"""Seconds before the first round, for each side; not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One side in one round."""

    rate: float
    """Good answers per second."""
    server_busy: float
    """The share of the time that the server's core worked, from 0 to 1."""
    load_busy: float
    """The share of the time that the load's core worked; a Redis that is asked meanwhile is on it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One side over all rounds."""

    title: str
    samples: Sequence[Sample]

    @property
    def rate(self) -> float:
        """The median; calls per second."""
        return statistics.median(sample.rate for sample in self.samples)

    @property
    def slowest(self) -> float:
        return min(sample.rate for sample in self.samples)

    @property
    def fastest(self) -> float:
        return max(sample.rate for sample in self.samples)

    @property
    def server_busy(self) -> float:
        return statistics.median(sample.server_busy for sample in self.samples)

    @property
    def load_busy(self) -> float:
        return statistics.median(sample.load_busy for sample in self.samples)


class Side(Protocol):
    """One server, one kind of call, one kind of load."""

    @property
    def title(self) -> str:
        """What is measured, for the table."""

    def measure(self, seconds: float) -> Sample:
        """One round. Raises BenchmarkError where an answer was wrong before, after or meanwhile."""


def alternate(
    sides: Mapping[str, Side], *, rounds: int, seconds: float, progress: Callable[[str], None]
) -> dict[str, Figures]:
    """Measure every side in every round."""
    for name, side in sides.items():
        progress(f"warm-up: {name}")
        side.measure(WARM_UP)
    samples: dict[str, list[Sample]] = {name: [] for name in sides}
    for number in range(1, rounds + 1):
        for name, side in sides.items():
            progress(f"round {number} of {rounds}: {name}")
            samples[name].append(side.measure(seconds))
    return {name: Figures(title=side.title, samples=samples[name]) for name, side in sides.items()}
