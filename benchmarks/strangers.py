"""Measures the effect of a client without a credential (a stranger) on other clients: bar S15.

`python -m benchmarks.strangers --seconds 30`. Each abuse has a service of its own, on each engine, and comes
once from an address of its own and once from the address of the client that is measured. The abuser runs on
the load's core, with a lower priority than that client. `python -m benchmarks` measures the short form: all
abuses one after the other on one service of each engine, each from an address of its own, without the memory.

Exit codes: 0 the bar is met, 1 it is not met or a row is missing, 2 nothing was measured.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks import names
from benchmarks.measure import FAILURES, Bench, Figures, Findings, reason_of
from benchmarks.names import ENGINES
from benchmarks.processes import BenchmarkError, Cores, on_core
from benchmarks.strangers_side import METHODS, Abuse, Row, measure

NONE: Final = "none"
ABUSES: Final[Mapping[str, tuple[str, int]]] = {
    NONE: (NONE, 0),
    "1": ("reflection", 32),
    "2": ("health-watch", 4),
    "3 Verify": ("headers-verify", 4),
    "3 Issue": ("headers-issue", 40),
    "3": ("headers", 4_500),
    "4": ("bodies", 24),
    "5": ("resets", 28_000),
    "6": ("refused", 880),
    "7": ("watch", 450),
    "8": ("passwords", 60),
}
"""A map from the line of the tables in docs/benchmarks/README.md to the abuse (tests/abuse/abuses.py) and its
size."""
SOURCES: Final = ("127.0.0.2", "127.0.0.1")
"""The abuser's own address, for which the bar holds, and the address of the measured client."""
FIGURES: Final = frozenset(
    names.strangers(engine, figure) for engine in ENGINES for figure in ("p99", "failed")
)
P99_MS: Final = 100.0
GROWTH_MB: Final = 20.0
_SHORT: Final = 3.0
"""The number of seconds of each abuse in the short form: 120 calls of each method."""


def trial(bench: Bench) -> Findings:
    """Measure the short form on each engine."""
    found, short = Findings(), dataclasses.replace(bench, seconds=_SHORT)
    abuses = [
        Abuse(name=name, count=count, source=f"127.0.1.{number}")
        for number, (name, count) in enumerate(ABUSES.values(), start=1)
    ]
    for engine in ENGINES:
        rows = list[Row]()
        try:
            for row in measure(short, engine, abuses, settle=False):
                rows.append(row)
                highest = max(times.p99_ms for times in row.methods.values())
                bench.say(f"{engine} beside {row.abuse}: highest p99 {highest:.0f} ms")
        except FAILURES as error:
            figures = ("p99", "failed")
            found.absent |= {names.strangers(engine, each): reason_of(error) for each in figures}
        else:
            found.add(summary(engine, rows))
    return found


def summary(engine: str, rows: Sequence[Row]) -> Findings:
    """Return the highest p99 of all methods and abuses of an engine, and the number of calls that failed."""
    every = [times for row in rows for times in row.methods.values()]
    highest, failed = max(times.p99_ms for times in every), sum(sum(t.failures.values()) for t in every)
    title = f"beside strangers, {engine}"
    return Findings(
        figures={
            names.strangers(engine, "p99"): Figures(
                title=f"{title}: highest p99", unit="ms", values=[highest]
            ),
            names.strangers(engine, "failed"): Figures(
                title=f"{title}: calls that failed", unit="calls", values=[failed]
            ),
        },
        details={f"strangers_{engine}": [{"line": _line_of(row), **asdict(row)} for row in rows]},
    )


def main() -> int:
    """Measure, print the table, and return the exit code."""
    arguments = _arguments()
    cores = Cores.choose()
    rows, absent = list[Row](), dict[str, str]()
    # The threads of gRPC of the client that is measured stay on this core.
    with tempfile.TemporaryDirectory(prefix="identity-bench-") as root, on_core(cores.load):
        bench = Bench(root=Path(root), cores=cores, rounds=1, seconds=arguments.seconds, say=_say)
        for engine, source, line in _plan(arguments):
            abuse, count = ABUSES[line]
            bench.say(f"{engine}: {abuse} from {source}")
            try:
                one = Abuse(name=abuse, count=count, source=source)
                rows += measure(bench, engine, [one], settle=True)
                bench.say(table(rows[-1:], {}).splitlines()[-1])
            except FAILURES as error:
                absent[f"{engine} {line} {source}"] = reason_of(error)
            if arguments.save is not None:  # as it goes: a run of all rows takes most of an hour
                arguments.save.write_text(
                    f"{json.dumps(_as_json(rows, absent, arguments.seconds), indent=2)}\n"
                )
    answer = _as_json(rows, absent, arguments.seconds)
    print(json.dumps(answer, indent=2) if arguments.json else table(rows, absent))
    if not rows:
        return 2
    return 0 if not absent and all(not shortcomings(row) for row in rows if _is_judged(row)) else 1


def shortcomings(row: Row) -> Sequence[str]:
    """Return the parts of the bar that the row misses."""
    missed = [
        f"{name} p99 {times.p99_ms:.0f} ms" for name, times in row.methods.items() if times.p99_ms > P99_MS
    ]
    missed += [
        f"{sum(times.failures.values())} {name} failed"
        for name, times in row.methods.items()
        if times.failures
    ]
    grown = row.memory_after_mb - row.memory_before_mb
    return [*missed, f"{grown:+.0f} MB"] if grown > GROWTH_MB else missed


def table(rows: Sequence[Row], absent: Mapping[str, str]) -> str:
    """Return the rows as text: for each method p50/p99/max in ms and failures after a cross."""
    head = ("engine", "from", "line", "abuse", *METHODS, "MB", "threads", "bar")
    body = [
        (
            row.engine,
            row.source,
            _line_of(row),
            f"{row.count:,} {row.abuse}" if row.count else row.abuse,
            *(_cell(row, name) for name in METHODS),
            f"{row.memory_before_mb:.0f}>{row.memory_most_mb:.0f}>{row.memory_after_mb:.0f}",
            f"{row.threads_before}>{row.threads_most}",
            "; ".join(shortcomings(row)) or "met",
        )
        for row in rows
    ]
    widths = [max(len(cells[index]) for cells in (head, *body)) for index in range(len(head))]
    lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in (head, *body)]
    return "\n".join([*lines, *(f"{name} not measured: {why}" for name, why in absent.items())])


def _cell(row: Row, name: str) -> str:
    times = row.methods[name]
    failed = sum(times.failures.values())
    return f"{times.p50_ms:.1f}/{times.p99_ms:.0f}/{times.max_ms:.0f}" + (f" x{failed}" if failed else "")


def _line_of(row: Row) -> str:
    return next((line for line, known in ABUSES.items() if known == (row.abuse, row.count)), NONE)


def _is_judged(row: Row) -> bool:
    return row.source == SOURCES[0]


def _as_json(rows: Sequence[Row], absent: Mapping[str, str], seconds: float) -> dict[str, Any]:
    found = [{"line": _line_of(row), **asdict(row), "missed": list(shortcomings(row))} for row in rows]
    return {"seconds": seconds, "rows": found, "absent": dict(absent)}


def _plan(arguments: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Return engine, source and line of each row; without an abuse there is one source only."""
    return [
        (engine, source, line)
        for engine in arguments.engines
        for source in arguments.sources
        for line in arguments.lines
        if line != NONE or source == arguments.sources[0]
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strangers", description="Measure bar S15.")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each row; default 30")
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--sources", nargs="+", default=SOURCES, help=f"default {' '.join(SOURCES)}")
    parser.add_argument("--lines", nargs="+", default=tuple(ABUSES), choices=ABUSES, metavar="LINE")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the JSON to a file")
    arguments = parser.parse_args()
    if arguments.seconds <= 0:
        parser.error("--seconds must be positive")
    return arguments


def _say(progress: str) -> None:
    print(f"  {progress}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as error:
        sys.exit(f"strangers: {error}")
