"""The report: a table for people, and JSON for programs. The module measures nothing."""

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import names
from benchmarks.bars import Condition
from benchmarks.measure import PER_SECOND, Figures, Findings
from benchmarks.verdicts import Outcome, Result, Verdict

_NEARLY_ALL: Final = 0.9
_IDLE: Final = 0.2
_STEADY: Final = 0.1
"""The part of its median by which the pace of a steady machine varies, from its tenth to its ninetieth
percentile."""
_PACKAGES: Final = ("grpcio", "protobuf", "cryptography", "pyjwt", "redis", "fastapi", "uvicorn")


def table(found: Findings, results: Sequence[Result]) -> str:
    """Return the table: the bars with their ratios, then all figures, then those that are missing."""
    parts = [_bars(found, results), _all_figures(found), *_missing(found, results), *limits(found)]
    return "\n\n".join(part for part in parts if part)


def _bars(found: Findings, results: Sequence[Result]) -> str:
    rows = [("bar", "meaning", "measured", "rounds", "wanted", "", "from")]
    for result in results:
        for index, outcome in enumerate(result.outcomes):
            rows.append(
                (
                    "" if index else result.bar.name,
                    outcome.condition.meaning,
                    _value(outcome),
                    spread(outcome.rounds),
                    _wanted(outcome.condition),
                    outcome.verdict.value,
                    _raw(found, outcome.condition),
                )
            )
    return aligned(rows, left={0, 1, 5, 6})


def _all_figures(found: Findings) -> str:
    rows = [("figure", "median", "lowest", "highest", "unit", "server core", "load core")]
    rows += [
        (
            one.title,
            number(one.median),
            number(min(one.values)),
            number(max(one.values)),
            one.unit,
            "" if one.server_busy is None else f"{one.server_busy:.0%}",
            "" if one.load_busy is None else f"{one.load_busy:.0%}",
        )
        for one in found.figures.values()
    ]
    return aligned(rows, left={0, 4}) if found.figures else ""


def _missing(found: Findings, results: Sequence[Result]) -> list[str]:
    """Return the figures that are missing, with the reasons: by bar, then those that no bar needs."""
    reasons = [
        f"{result.bar.name} not measured: {outcome.reason}"
        for result in results
        for outcome in result.outcomes
        if outcome.verdict is Verdict.NOT_MEASURED
    ]
    needed = {name for result in results for outcome in result.outcomes for name in outcome.condition.needs}
    reasons += [f"{name} left out: {why}" for name, why in found.absent.items() if name not in needed]
    return ["\n".join(dict.fromkeys(reasons))] if reasons else []


def limits(found: Findings) -> list[str]:
    """Return notes about the machine, and about the sides that their server did not limit."""
    lines = _noise(found.pace)
    lines += [
        f"{side.title}: the server's core was only {side.server_busy:.0%} busy, so the server can do more "
        f"than this shows (load core: {side.load_busy:.0%})."
        for side in found.figures.values()
        if side.server_busy is not None and side.server_busy < _NEARLY_ALL and side.unit.endswith("/s")
    ]
    bare = found.figures.get(names.RAW_VERIFY)
    if bare is not None and bare.load_busy is not None and bare.load_busy > _IDLE:
        lines.append(
            f"While nothing of this run used the load's core, it was {bare.load_busy:.0%} busy: the machine "
            "was not idle, and absolute figures and bars of latency mean little."
        )
    return ["\n".join(lines)] if lines else []


def _noise(pace: Sequence[float]) -> list[str]:
    """Return the pace of the machine, and whether it was so unsteady that the verdicts mean little."""
    if len(pace) < 2:
        return []
    deciles, usual = statistics.quantiles(pace, n=10, method="inclusive"), statistics.median(pace)
    varied = (deciles[-1] - deciles[0]) / usual
    said = (
        f"Between the rounds, a core made {number(usual)} bare ES256 signatures per second (tenth to "
        f"ninetieth percentile: {number(deciles[0])} to {number(deciles[-1])}); ratios are at that pace."
    )
    if varied <= _STEADY:
        return [said]
    return [f"{said} THE MACHINE WAS NOISY: this varied by {varied:.0%}. Repeat the run on an idle machine."]


def as_json(found: Findings, results: Sequence[Result], *, rounds: int, seconds: float) -> dict[str, Any]:
    """Return the report as JSON, with every round and the machine."""
    return {
        "machine": _machine(),
        "rounds": rounds,
        "seconds_per_round": seconds,
        "bars": [
            {
                "bar": result.bar.name,
                "verdict": result.verdict.value,
                "conditions": [_condition(outcome) for outcome in result.outcomes],
            }
            for result in results
        ],
        "pace": [round(rate, 1) for rate in found.pace],
        "figures": {name: _figures(one) for name, one in found.figures.items()},
        "not_measured": dict(found.absent),
        "notes": limits(found),
        "details": found.details,
    }


def _condition(outcome: Outcome) -> dict[str, Any]:
    condition = outcome.condition
    return {
        "meaning": condition.meaning,
        "of": list(condition.needs),
        "value": None if outcome.value is None else round(outcome.value, 4),
        "rounds": [round(value, 4) for value in outcome.rounds],
        "unit": condition.unit,
        "at_most" if condition.at_most else "at_least": condition.limit,
        "verdict": outcome.verdict.value,
        "reason": outcome.reason,
    }


def _figures(one: Figures) -> dict[str, Any]:
    busy = {"server_core_busy": one.server_busy, "load_core_busy": one.load_busy}
    return {
        "title": one.title,
        "unit": one.unit,
        "median": round(one.median, 4),
        "rounds": [round(value, 4) for value in one.values],
        "pace": [round(value, 4) for value in one.pace],
        **{name: round(share, 3) for name, share in busy.items() if share is not None},
    }


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _value(outcome: Outcome) -> str:
    if outcome.value is None:
        return "-"
    return f"{outcome.value:,.2f} {outcome.condition.unit}".strip()


def spread(rounds: Sequence[float]) -> str:
    """Return the lowest and the highest round; "" if there was one round only."""
    return f"{min(rounds):,.2f}..{max(rounds):,.2f}" if len(rounds) > 1 else ""


def _wanted(condition: Condition) -> str:
    return f"{'≤' if condition.at_most else '≥'} {condition.limit:,.2f} {condition.unit}".strip()


def _raw(found: Findings, condition: Condition) -> str:
    known = [(name, found.figures.get(name)) for name in condition.needs]
    return ", ".join(
        f"{name} -" if one is None else f"{name} {number(one.median)}{_short(one.unit)}"
        for name, one in known
    )


def _short(unit: str) -> str:
    return "/s" if unit == PER_SECOND else f" {unit}".rstrip()


def number(value: float) -> str:
    """Return a number with its significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def aligned(rows: Sequence[Sequence[str]], *, left: set[int]) -> str:
    """Return a table whose first row is the header; the columns in `left` are not numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
