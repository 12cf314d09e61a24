"""Measuring: several sides in turn, round after round, so that a machine that slows down slows all of them.

Owns what a side is and how its rounds are summed up. Knows no server and no bar.
"""

import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import grpc

from benchmarks.processes import BenchmarkError, Cores

FAILURES: Final = (BenchmarkError, grpc.RpcError, subprocess.SubprocessError, OSError, AssertionError)
"""What a measurement may meet; it is then missing, and the others go on."""
WARM_UP: Final = 0.5
"""Seconds before the first round, for each side; not counted."""
PER_SECOND: Final = "calls/s"


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
    """One thing that was measured, over all rounds."""

    title: str
    values: Sequence[float]
    """One for each round."""
    unit: str = PER_SECOND
    server_busy: float | None = None
    """The median; None where no core was kept busy."""
    load_busy: float | None = None

    @classmethod
    def of(cls, title: str, unit: str, samples: Sequence[Sample]) -> "Figures":
        return cls(
            title=title,
            unit=unit,
            values=[sample.rate for sample in samples],
            server_busy=statistics.median(sample.server_busy for sample in samples),
            load_busy=statistics.median(sample.load_busy for sample in samples),
        )

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(slots=True, kw_only=True)
class Findings:
    """All that a run found out, and why it did not find out the rest."""

    figures: dict[str, Figures] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """What could not be measured → why."""
    details: dict[str, Any] = field(default_factory=dict)
    """What no bar asks for: as it stands in the JSON."""

    def add(self, other: "Findings") -> None:
        self.figures |= other.figures
        self.absent |= other.absent
        self.details |= other.details


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how long to measure."""

    root: Path
    """A folder that is deleted afterwards."""
    cores: Cores
    rounds: int
    seconds: float
    """Of a round."""
    say: Callable[[str], None]
    """Takes what is being done now, for whoever waits."""


def reason_of(error: BaseException) -> str:
    """Why something is missing, in one line."""
    return error.reason if isinstance(error, BenchmarkError) else repr(error).partition("\n")[0]


class Side(Protocol):
    """One server, one kind of call, one kind of load."""

    @property
    def title(self) -> str:
        """What is measured, for the table."""

    @property
    def unit(self) -> str:
        """Of its rate."""

    def measure(self, seconds: float) -> Sample:
        """One round. Raises BenchmarkError where an answer was wrong before, after or meanwhile."""


def alternate(sides: Mapping[str, Side], bench: Bench) -> Findings:
    """Measure every side in every round. A side with one wrong answer is out, with all its rounds."""
    found = Findings()
    samples: dict[str, list[Sample]] = {name: [] for name in sides}

    def measure(name: str, seconds: float) -> None:
        if name in found.absent:
            return
        try:
            samples[name].append(sides[name].measure(seconds))
        except FAILURES as error:
            found.absent[name] = reason_of(error)

    for name in sides:
        bench.say(f"warm-up: {name}")
        measure(name, WARM_UP)
        samples[name].clear()
    for number in range(1, bench.rounds + 1):
        for name in sides:
            bench.say(f"round {number} of {bench.rounds}: {name}")
            measure(name, bench.seconds)
    found.figures = {
        name: Figures.of(side.title, side.unit, samples[name])
        for name, side in sides.items()
        if name not in found.absent
    }
    return found
