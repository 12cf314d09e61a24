"""Measures several sides in turn, round after round, so that a machine that slows down affects all of them.

The module defines a side, and how its rounds are summarised. It knows no server and no bar.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import grpc

from benchmarks.pace import Pace, bare_signatures
from benchmarks.processes import BenchmarkError, Cores

FAILURES: Final = (BenchmarkError, grpc.RpcError, subprocess.SubprocessError, OSError, AssertionError)
"""The errors after which a measurement is missing, while the others continue."""
WARM_UP: Final = 0.5
"""The number of seconds for which each side is warmed up before the first round."""
PER_SECOND: Final = "calls/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The result of one side in one round."""

    value: float
    """The value in the unit of the side, such as the number of right answers per second."""
    server_busy: float
    """The fraction of the time in which the server's core was busy."""
    load_busy: float
    """The fraction of the time in which the load's core was busy. Redis runs on it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The values of one figure in all rounds."""

    title: str
    values: Sequence[float]
    """One value for each round, as measured."""
    unit: str = PER_SECOND
    server_busy: float | None = None
    """The median of the fraction for which the server's core was busy; None if no core was kept busy."""
    load_busy: float | None = None
    pace: Sequence[float] = ()
    """The pace of the machine beside each round, relative to that of the whole run; empty = not measured."""

    @classmethod
    def of(cls, title: str, unit: str, samples: Sequence[Sample], pace: Sequence[float] = ()) -> "Figures":
        return cls(
            title=title,
            unit=unit,
            values=[sample.value for sample in samples],
            server_busy=statistics.median(sample.server_busy for sample in samples),
            load_busy=statistics.median(sample.load_busy for sample in samples),
            pace=pace,
        )

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def steady(self) -> Sequence[float]:
        """Return the values that a machine with the same pace in all rounds would have given."""
        if not self.pace:
            return self.values
        if self.unit.endswith("/s"):
            return [value / pace for value, pace in zip(self.values, self.pace, strict=True)]
        return [value * pace for value, pace in zip(self.values, self.pace, strict=True)]


@dataclass(slots=True, kw_only=True)
class Findings:
    """The figures of a run, and the reasons for those that are missing."""

    figures: dict[str, Figures] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """A map from the name of a figure that could not be measured to the reason."""
    pace: list[float] = field(default_factory=list)
    """The rates of a bare signature that were measured between the rounds."""
    details: dict[str, Any] = field(default_factory=dict)
    """Results that no bar needs, as they are in the JSON."""

    def add(self, other: "Findings") -> None:
        self.figures |= other.figures
        self.absent |= other.absent
        self.pace += other.pace
        self.details |= other.details


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The parameters of a run."""

    root: Path
    """A directory that is deleted afterwards."""
    cores: Cores
    rounds: int
    seconds: float
    """The length of a round."""
    say: Callable[[str], None]
    """A function that reports the progress to the user."""
    curves: bool = False
    """True to measure also what only the plots show."""
    python: str = sys.executable
    """The Python that runs the service."""


def reason_of(error: BaseException) -> str:
    """Return the reason why a figure is missing, in one line."""
    return error.reason if isinstance(error, BenchmarkError) else repr(error).partition("\n")[0]


class Side(Protocol):
    """A side: one server with one kind of call and one kind of load."""

    @property
    def title(self) -> str:
        """The name of the side in the table."""

    @property
    def unit(self) -> str:
        """The unit of its values; it ends with /s if they are rates, and is one of time otherwise."""

    def measure(self, seconds: float) -> Sample:
        """Measure one round. Raises BenchmarkError if an answer was wrong before, during or after it."""


def alternate(sides: Mapping[str, Side], bench: Bench, pace: Pace | None = None) -> Findings:
    """Measure every side in every round. All rounds of a side with one wrong answer are discarded.

    Args:
        sides: the sides by the names of their figures.
        bench: the parameters of the run.
        pace: measures the pace of the machine before and after each round; None = by bare signatures on the
            server's core.
    """
    measure_pace = pace or bare_signatures(bench.cores.server)
    found = Findings()
    samples: dict[str, list[Sample]] = {name: [] for name in sides}
    beside: dict[str, list[float]] = {name: [] for name in sides}

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
    found.pace.append(measure_pace())
    for number in range(1, bench.rounds + 1):
        for name in sides:
            bench.say(f"round {number} of {bench.rounds}: {name}")
            measure(name, bench.seconds)
            found.pace.append(measure_pace())
            beside[name].append(statistics.mean(found.pace[-2:]))
    usual = statistics.median(found.pace)
    found.figures = {
        name: Figures.of(side.title, side.unit, samples[name], [pace / usual for pace in beside[name]])
        for name, side in sides.items()
        if name not in found.absent
    }
    return found
