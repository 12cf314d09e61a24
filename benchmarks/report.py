"""The report: a table for people, JSON for programs. Measures nothing."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.bars import Result
from benchmarks.measure import Figures

_NEARLY_ALL: Final = 0.9
_PACKAGES: Final = ("grpcio", "protobuf", "cryptography", "pyjwt", "redis", "fastapi", "uvicorn")


def table(figures: Mapping[str, Figures], results: Sequence[Result]) -> str:
    """What was measured, then each bar with its ratio."""
    sides = [("side", "calls/s", "slowest", "fastest", "server core", "load core")]
    sides += [
        (
            side.title,
            f"{side.rate:,.0f}",
            f"{side.slowest:,.0f}",
            f"{side.fastest:,.0f}",
            f"{side.server_busy:.0%}",
            f"{side.load_busy:.0%}",
        )
        for side in figures.values()
    ]
    bars = [("bar", "meaning", "ratio", "at least", "")]
    bars += [
        (
            result.bar.name,
            result.bar.meaning,
            f"{result.ratio:.2f}",
            f"{result.bar.at_least:.2f}",
            "pass" if result.met else "short",
        )
        for result in results
    ]
    parts = [_aligned(sides, left={0}), _aligned(bars, left={0, 1, 4}), *limits(figures)]
    return "\n\n".join(parts)


def limits(figures: Mapping[str, Figures]) -> list[str]:
    """What a reader must know about sides that their server did not limit."""
    return [
        f"{side.title}: the server's core was only {side.server_busy:.0%} busy, so the server can do more "
        f"than this shows (load core: {side.load_busy:.0%})."
        for side in figures.values()
        if side.server_busy < _NEARLY_ALL
    ]


def as_json(
    figures: Mapping[str, Figures], results: Sequence[Result], *, rounds: int, seconds: float
) -> dict[str, Any]:
    """The same, with every round and the machine it ran on."""
    return {
        "machine": _machine(),
        "rounds": rounds,
        "seconds_per_round": seconds,
        "sides": {
            name: {
                "title": side.title,
                "calls_per_second": round(side.rate, 1),
                "server_core_busy": round(side.server_busy, 3),
                "load_core_busy": round(side.load_busy, 3),
                "rounds": [round(sample.rate, 1) for sample in side.samples],
            }
            for name, side in figures.items()
        },
        "bars": [
            {
                "bar": result.bar.name,
                "meaning": result.bar.meaning,
                "side": result.bar.side,
                "yardstick": result.bar.yardstick,
                "ratio": round(result.ratio, 4),
                "at_least": result.bar.at_least,
                "met": result.met,
            }
            for result in results
        ],
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


def _aligned(rows: Sequence[Sequence[str]], *, left: set[int]) -> str:
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
