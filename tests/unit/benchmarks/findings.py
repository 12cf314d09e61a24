"""Sample results in which every bar is just met, for tests of verdicts, report and plots."""

from benchmarks import names
from benchmarks.bars import BARS
from benchmarks.measure import Figures, Findings, Sample

MEDIANS = {
    names.STREAM_ENDS: 100.0,
    names.GUARD_THREADS: 15.0,
    names.GUARD_ASYNCIO: 25.0,
    names.EMPTY: 10_000.0,
    names.VERIFY: 9_000.0,
    names.VERIFY_NEW: 3_000.0,  # of 5,000 that 1/10,000 s and 1/10,000 s would allow
    names.RAW_VERIFY: 10_000.0,
    names.BATCH: 135_000.0,
    names.ISSUE: 6_000.0,
    names.OAUTH: 3_000.0,
    names.REFRESH: 3_500.0,
    names.LOAD_CEILING: 10_000.0,
    names.FASTAPI: 3_000.0,
    names.NODE: 4_000.0,
    names.NODE_ISSUE: 5_000.0,
    names.ENVOY_VERIFY: 27_000.0,
    names.ENVOY_VERIFY_NEW: 6_000.0,  # of 7,297 that 1/27,000 s and 1/10,000 s would allow
    names.ENVOY_BATCH: 150_000.0,
    names.ENVOY_ISSUE: 6_000.0,
    names.GO_EMPTY: 70_000.0,
    names.GO_VERIFY: 12_000.0,
    names.GO_REMEMBERS: 60_000.0,
    names.GO_BATCH: 400_000.0,
    names.CHECK_P99: 2.0,
    names.ENVOY_CHECK_P99: 2.0,
    names.ISSUE_CPU: 150.0,
    names.ISSUE_SIGNATURE: 50.0,
    names.REFRESH_CPU: 400.0,
    names.REFRESH_SIGNATURE: 50.0,
    names.LOCAL_SEEN: 3.0,
    names.LOCAL_NEW: 130.0,
    names.LOCAL_RAW: 100.0,
    names.DENIALS_NONE: 10_000.0,
    names.DENIALS_FULL: 9_500.0,
    names.DENIAL_BYTES: 100.0,
    names.REPLICA_ALONE: 7.0,
    names.COLD_START: 8.0,
    names.spread(50, "p50"): 5.0,
    names.spread(50, "p99"): 50.0,
    names.spread(1000, "p50"): 70.0,
    names.spread(1000, "p99"): 150.0,
    names.WORKER_MEMORY: 80.0,
    names.ALONE_MEMORY: 85.0,
    names.WORKER_CPU: 1.0,
    **{names.soak(engine, "calls"): 1_000_000.0 for engine in names.ENGINES},
    **{names.soak(engine, "growth"): 5.0 for engine in names.ENGINES},
    **{names.soak(engine, "good"): 1.0 for engine in names.ENGINES},
    names.soak("envoy", "memory"): 250.0,
    names.ALONE_P99: 1.0,
    names.LOOP_P99: 2.0,
    names.BESIDE_P99: 2.6,
    **{names.workers(engine, 1): 10_000.0 for engine in names.ENGINES},
    **{names.workers(engine, 2): 16_000.0 for engine in names.ENGINES},
    **{names.strangers(engine, "p99"): 100.0 for engine in names.ENGINES},
    **{names.strangers(engine, "failed"): 0.0 for engine in names.ENGINES},
}
SIZES = (1_000, 1_000_000)


def findings(**others: float) -> Findings:
    """Return the sample results; keyword arguments replace figures (`_` stands for `-` in their names)."""
    changed = {name.replace("_", "-"): value for name, value in others.items()}
    found = Findings()
    for name, median in (MEDIANS | changed).items():
        # The slowest and the fastest round lie far apart: only the median counts.
        samples = [
            Sample(value=value, server_busy=1.0, load_busy=0.1) for value in (median / 2, median, median * 2)
        ]
        found.figures[name] = Figures.of(name, "µs" if name.startswith("local") else "calls/s", samples)
    found.pace = [20_000.0] * 5
    found.details = {
        "latency": {"grpcio": [_point(1_000, 0.2), _point(5_000, 0.4), _point(9_000, 3.0)]},
        "denylist": [
            {"denials": size, "verify": [9_900, 10_000, 10_100], "verify_when_empty": [10_000] * 3}
            for size in SIZES
        ],
    }
    return found


def _point(offered: float, p50: float) -> dict[str, float]:
    return {"offered": offered, "answered": offered, "p50_ms": p50, "p99_ms": p50 * 5}


def every_need() -> set[str]:
    """Return the names of all figures that the bars need."""
    return {name for bar in BARS for name in bar.needs}
