"""The agenda: runs the measurements that the chosen bars need, one after the other.

The module knows no bar's limit. To add a measurement, add a line to `TRIALS`: the names of its figures, and
the function that measures them.
"""

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Final

from benchmarks import (
    denylist,
    guard,
    h2load,
    handlers,
    latency,
    local,
    logins,
    memory,
    names,
    refreshes,
    spread,
    strangers,
    streams,
    two_cores,
)
from benchmarks.lineup import Lineup
from benchmarks.measure import FAILURES, Bench, Findings, alternate, reason_of

Trial = Callable[[Bench], Findings]

TRIALS: Final[tuple[tuple[frozenset[str], Trial], ...]] = (
    (frozenset({names.LOCAL_SEEN, names.LOCAL_NEW, names.LOCAL_RAW}), local.trial),
    (frozenset({names.ISSUE_CPU, names.ISSUE_SIGNATURE}), handlers.trial),
    (frozenset({names.REFRESH_CPU, names.REFRESH_SIGNATURE}), refreshes.trial),
    (denylist.FIGURES, denylist.trial),
    (spread.FIGURES, spread.trial),
    (frozenset({names.STREAM_ENDS}), streams.trial),
    (frozenset({names.GUARD_THREADS, names.GUARD_ASYNCIO}), guard.trial),
    (memory.FIGURES, memory.trial),
    (frozenset({names.ALONE_P99, names.BESIDE_P99, names.LOOP_P99}), logins.trial),
    (two_cores.FIGURES, two_cores.trial),
    (strangers.FIGURES, strangers.trial),
)
"""The names of the figures that a trial measures, and the trial. `Lineup` measures the other figures, all of
them in turn."""


def measure(needed: Iterable[str], bench: Bench) -> Findings:
    """Measure the figures that are needed, and with `bench.curves` also those that only the plots show.

    If a trial fails, only its own figures are missing.
    """
    wanted, found = set(needed), Findings()
    calls = wanted - frozenset[str]().union(*(measured for measured, _ in TRIALS))
    if calls or bench.curves or wanted & (denylist.FIGURES | two_cores.FIGURES):
        h2load.require()
    if calls or bench.curves:
        _try(found, calls, lambda bench: _calls(calls, bench), bench)
    for measured, trial in TRIALS:
        if wanted & measured or (bench.curves and measured is denylist.FIGURES):
            _try(found, wanted & measured, trial, bench)
    return found


def _calls(wanted: Iterable[str], bench: Bench) -> Findings:
    more = {names.NODE, names.GO_EMPTY, names.GO_BATCH} if bench.curves else set[str]()
    with contextlib.ExitStack() as stack:
        lineup = Lineup(stack, bench)
        sides, absent = lineup.sides(more.union(wanted))
        found = alternate(sides, bench)
        found.add(Findings(absent=absent))
        if bench.curves:
            found.add(latency.curves(lineup, bench))
        return found


def _try(found: Findings, measured: Iterable[str], trial: Trial, bench: Bench) -> None:
    begun = time.monotonic()
    try:
        found.add(trial(bench))
    except FAILURES as error:
        bench.say(f"not measured: {error}")
        found.add(Findings(absent=dict.fromkeys(measured, reason_of(error))))
    bench.say(f"... {time.monotonic() - begun:.0f} s")
