"""Judges each bar: pass, short, or not measured, with the reason. The module measures and prints nothing."""

import enum
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.bars import Bar, Condition
from benchmarks.measure import Findings


class Verdict(enum.StrEnum):
    PASS = "pass"
    SHORT = "short"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one condition."""

    condition: Condition
    rounds: Sequence[float] = ()
    """The value in each round, at the same pace of the machine."""
    reason: str = ""
    """The reason why there is no value."""

    @property
    def value(self) -> float | None:
        """Return the median of the rounds; None if there is none."""
        return statistics.median(self.rounds) if self.rounds else None

    @property
    def verdict(self) -> Verdict:
        if self.value is None:
            return Verdict.NOT_MEASURED
        return Verdict.PASS if self.condition.holds(self.value) else Verdict.SHORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of one bar."""

    bar: Bar
    outcomes: Sequence[Outcome]

    @property
    def verdict(self) -> Verdict:
        """Return SHORT if a condition is short, else NOT_MEASURED if one is unknown, else PASS."""
        found = {outcome.verdict for outcome in self.outcomes}
        worst_first = (Verdict.SHORT, Verdict.NOT_MEASURED, Verdict.PASS)
        return next(verdict for verdict in worst_first if verdict in found)


def judge(bars: Iterable[Bar], found: Findings) -> list[Result]:
    """Judge each bar by the figures."""
    return [
        Result(bar=bar, outcomes=[_judge(condition, found) for condition in bar.conditions]) for bar in bars
    ]


def _judge(condition: Condition, found: Findings) -> Outcome:
    missing = [name for name in condition.needs if name not in found.figures]
    if missing:
        reasons = dict.fromkeys(found.absent.get(name, f"{name} was not measured") for name in missing)
        return Outcome(condition=condition, reason="; ".join(reasons))
    rounds = zip(*(found.figures[name].steady for name in condition.needs), strict=True)
    return Outcome(condition=condition, rounds=[condition.value(*values) for values in rounds])
