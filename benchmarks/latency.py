"""Measures how long a Verify takes at each load, up to saturation: a curve for each engine, and no bar.

Calls begin at the times of a Poisson process, whether or not earlier calls are answered. First a closed loop
measures the highest rate of the engine; the rates of the curve are fractions of it.
"""

import statistics
from typing import Any, Final

from benchmarks import load
from benchmarks.lineup import Lineup
from benchmarks.measure import FAILURES, Bench, Findings, reason_of
from benchmarks.sides import run_load

SHARES: Final = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 1.0)
_ROUNDS: Final = 3


def curves(lineup: Lineup, bench: Bench) -> Findings:
    """Measure the curve of each engine that is installed."""
    found, rows = Findings(), dict[str, Any]()
    for engine in ("grpcio", "envoy"):
        try:
            rows[engine] = _curve(bench, engine, lineup)
        except FAILURES as error:
            found.absent[f"latency of the {engine} engine"] = reason_of(error)
    found.details["latency"] = rows
    return found


def _curve(bench: Bench, engine: str, lineup: Lineup) -> list[dict[str, float]]:
    target, item = lineup.engine(engine), lineup.seen.SerializeToString().hex()

    def run(rate: float) -> load.Report:
        order = load.Order(work="verify", seconds=bench.seconds, items=[item], rate=rate)
        return run_load(f"latency of the {engine} engine", target, order, bench.cores)

    bench.say(f"latency of the {engine} engine: how much it can do")
    run(0)
    most = run(0)
    capacity = most.calls / most.seconds
    rounds: dict[float, list[load.Report]] = {share: [] for share in SHARES}
    for number in range(1, _ROUNDS + 1):
        for share in SHARES:
            bench.say(f"round {number} of {_ROUNDS}: {engine} engine at {share * capacity:,.0f} calls/s")
            rounds[share].append(run(share * capacity))
    return [_point(share * capacity, reports) for share, reports in rounds.items()]


def _point(offered: float, reports: list[load.Report]) -> dict[str, float]:
    return {
        "offered": round(offered, 1),
        "answered": round(statistics.median(report.calls / report.seconds for report in reports), 1),
        "p50_ms": round(statistics.median(report.p50 for report in reports) * 1000, 3),
        "p99_ms": round(statistics.median(report.p99 for report in reports) * 1000, 3),
    }
