"""The agenda: runs the measurements that the chosen bars need, one after the other.

The module knows no bar's limit.
"""

import contextlib
from collections.abc import Callable, Iterable
from typing import Final

from benchmarks import denylist, h2load, latency, local, logins, memory, names, spread, streams
from benchmarks.lineup import Lineup
from benchmarks.measure import FAILURES, Bench, Findings, alternate, reason_of

Trial = Callable[[Bench], Findings]

_TRIALS: Final[tuple[tuple[frozenset[str], Trial], ...]] = (
    (frozenset({names.WORKER_MEMORY, names.ALONE_MEMORY, *memory.SOAK}), memory.trial),
    (frozenset({names.LOCAL_SEEN, names.LOCAL_NEW, names.LOCAL_RAW}), local.trial),
    (
        frozenset(
            names.spread(watchers, quantile)
            for watchers in (names.FEW_WATCHERS, names.MANY_WATCHERS)
            for quantile in ("p50", "p99")
        ),
        spread.trial,
    ),
    (frozenset({names.ALONE_P99, names.BESIDE_P99}), logins.trial),
    (frozenset({names.STREAM_ENDS}), streams.trial),
)
"""A map from the names of the figures that a trial measures to the trial."""
_DENYLIST: Final = frozenset(
    {names.DENIALS_NONE, names.DENIALS_FULL, names.DENIAL_BYTES, names.REPLICA_ALONE, names.COLD_START}
)


def measure(needed: Iterable[str], bench: Bench, *, curves: bool) -> Findings:
    """Measure the figures that are needed, and with `curves` also those that only the plots show.

    If a trial fails, only its own figures are missing.
    """
    wanted, found = set(needed), Findings()
    calls = wanted - _DENYLIST.union(*(measured for measured, _ in _TRIALS))
    if calls or curves or wanted & _DENYLIST:
        h2load.require()
    if calls or curves:
        _try(found, calls, lambda bench: _calls(calls, bench, curves=curves), bench)
    for measured, trial in _TRIALS:
        if wanted & measured:
            _try(found, wanted & measured, trial, bench)
    if wanted & _DENYLIST or curves:
        sizes = denylist.SIZES if curves else (denylist.MILLION,)
        _try(found, wanted & _DENYLIST, lambda bench: denylist.trial(bench, sizes), bench)
    return found


def _calls(wanted: Iterable[str], bench: Bench, *, curves: bool) -> Findings:
    with contextlib.ExitStack() as stack:
        lineup = Lineup(stack, bench)
        sides, absent = lineup.sides(wanted)
        found = alternate(sides, bench)
        found.add(Findings(absent=absent))
        if curves:
            found.add(latency.curves(lineup, bench))
        return found


def _try(found: Findings, measured: Iterable[str], trial: Trial, bench: Bench) -> None:
    try:
        found.add(trial(bench))
    except FAILURES as error:
        bench.say(f"not measured: {error}")
        found.add(Findings(absent=dict.fromkeys(measured, reason_of(error))))
