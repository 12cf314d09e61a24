"""The bars: the figures that are compared, and their limits.

The module does not know how figures are measured; `agenda.py` has the table of measurements.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import names


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One figure, or ratio of figures, with its limit."""

    meaning: str
    needs: tuple[str, ...]
    """The names of the figures that the condition needs."""
    value: Callable[..., float]
    """A function that computes the value of one round from that round of `needs`, in their order."""
    limit: float
    at_most: bool = False
    unit: str = ""

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar, which is met if all its conditions hold."""

    name: str
    conditions: tuple[Condition, ...]
    also: tuple[str, ...] = ()
    """The names of further figures, which are measured for the reader."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(self.also).union(*(condition.needs for condition in self.conditions))


def _over(one: float, other: float) -> float:
    return one / other


def _least(meaning: str, one: str, other: str, limit: float) -> Condition:
    return Condition(meaning=meaning, needs=(one, other), value=_over, limit=limit)


def _most(meaning: str, one: str, other: str, limit: float) -> Condition:
    return Condition(meaning=meaning, needs=(one, other), value=_over, limit=limit, at_most=True)


def _at_most(meaning: str, name: str, limit: float, unit: str) -> Condition:
    return Condition(meaning=meaning, needs=(name,), value=float, limit=limit, at_most=True, unit=unit)


def _at_least(meaning: str, name: str, limit: float) -> Condition:
    return Condition(meaning=meaning, needs=(name,), value=float, limit=limit)


def _of_the_possible(new: float, call: float, raw: float) -> float:
    """Return the rate as a fraction of that of a call that takes 1/call + 1/raw: call and check alone."""
    return new * (1 / call + 1 / raw)


def _new_token(engine: str, new: str, call: str, limit: float) -> Condition:
    return Condition(
        meaning=f"Verify, new token, {engine} / what call and bare check allow",
        needs=(new, call, names.RAW_VERIFY),
        value=_of_the_possible,
        limit=limit,
    )


def _spread(watchers: int, quantile: str, limit: float) -> Condition:
    meaning = f"Revoke → all know, {watchers:,} watchers, {quantile}"
    return _at_most(meaning, names.spread(watchers, quantile), limit, "ms")


def _soak(engine: str) -> tuple[Condition, ...]:
    return (
        _at_least(f"Soak, {engine}: calls", names.soak(engine, "calls"), 1_000_000),
        _at_most(f"Soak, {engine}: growth in a million calls", names.soak(engine, "growth"), 5, "MB"),
        _at_least(f"Soak, {engine}: answers, descriptors, threads", names.soak(engine, "good"), 1),
    )


def _two_workers(engine: str) -> Condition:
    two, one = names.workers(engine, 2), names.workers(engine, 1)
    return _least(f"2 workers on 2 cores / 1 on 1, {engine}", two, one, 1.6)


def _strangers(engine: str) -> tuple[Condition, ...]:
    return (
        _at_most(f"Beside strangers, {engine}: highest p99", names.strangers(engine, "p99"), 100, "ms"),
        _at_most(f"Beside strangers, {engine}: failed", names.strangers(engine, "failed"), 0, "calls"),
    )


BARS: Final = (
    Bar(
        name="S1",
        conditions=(_least("Verify (seen token, denylist on) / empty RPC", names.VERIFY, names.EMPTY, 0.90),),
    ),
    Bar(
        name="S2",
        conditions=(
            # The call of the Envoy engine is a Verify of a seen token, which it answers on its event loop.
            _new_token("envoy", names.ENVOY_VERIFY_NEW, names.ENVOY_VERIFY, 0.80),
            _new_token("grpcio", names.VERIFY_NEW, names.EMPTY, 0.60),
        ),
        also=(names.LOAD_CEILING,),
    ),
    Bar(
        name="S3",
        conditions=(
            _least("VerifyBatch of 100, per token / Verify", names.BATCH, names.VERIFY, 15),
            # Its calls of one token: the other way to verify many tokens.
            _least("The same, Envoy / grpc-go that remembers", names.ENVOY_BATCH, names.GO_REMEMBERS, 2.5),
        ),
    ),
    Bar(
        name="S4",
        conditions=(
            _at_most("Local verification, Python, seen token", names.LOCAL_SEEN, 3, "µs"),
            _most("The same, new token / bare check", names.LOCAL_NEW, names.LOCAL_RAW, 1.3),
        ),
    ),
    Bar(
        name="S5",
        conditions=(_least("Verify / FastAPI + PyJWT + Redis endpoint", names.VERIFY, names.FASTAPI, 3.0),),
    ),
    Bar(
        name="S6",
        conditions=(
            _most("CPU of an Issue / bare signature", names.ISSUE_CPU, names.ISSUE_SIGNATURE, 3.0),
            _least("Issue, Envoy / node oidc-provider", names.ENVOY_ISSUE, names.NODE_ISSUE, 1.2),
        ),
        also=(names.ISSUE, names.EMPTY),
    ),
    Bar(
        name="S7",
        conditions=(
            _most(
                "CPU of a Refresh on Redis / bare signature", names.REFRESH_CPU, names.REFRESH_SIGNATURE, 8.0
            ),
            _least("Refresh on Redis / empty RPC", names.REFRESH, names.EMPTY, 0.35),
        ),
        also=(names.LOAD_CEILING,),
    ),
    Bar(
        name="S8",
        conditions=(
            _least("Verify, 1,000,000 denials / none", names.DENIALS_FULL, names.DENIALS_NONE, 0.95),
            _at_most("Memory of each of 1,000,000 denials", names.DENIAL_BYTES, 100, "bytes"),
            _at_most("Ready with 1,000,000 denials, from cold", names.COLD_START, 8, "s"),
        ),
        also=(names.REPLICA_ALONE,),
    ),
    Bar(
        name="S9",
        conditions=(
            _spread(names.FEW_WATCHERS, "p50", 5),
            _spread(names.FEW_WATCHERS, "p99", 50),
            _spread(names.MANY_WATCHERS, "p99", 150),
            _at_most("Revoke → open stream ended, 1,000 streams, p99", names.STREAM_ENDS, 250, "ms"),
        ),
        also=(names.spread(names.MANY_WATCHERS, "p50"),),
    ),
    Bar(
        name="S10",
        conditions=(_least("Verify, Envoy engine / grpcio engine", names.ENVOY_VERIFY, names.VERIFY, 3),),
    ),
    Bar(
        name="S11",
        conditions=(
            _at_most("Memory of an idle worker", names.WORKER_MEMORY, 80, "MB"),
            _at_most("CPU of an idle worker, embedded store", names.WORKER_CPU, 1, "%"),
            *_soak("grpcio"),
            *_soak("envoy"),
            _at_most("Soak, envoy: memory at the end", names.soak("envoy", "memory"), 250, "MB"),
        ),
        also=(names.ALONE_MEMORY,),
    ),
    Bar(
        name="S12",
        conditions=(
            _most(
                "Verify p99 beside 64 sign-ins / beside an idle-priority loop",
                names.BESIDE_P99,
                names.LOOP_P99,
                1.3,
            ),
        ),
        also=(names.ALONE_P99,),
    ),
    Bar(
        name="S13",
        conditions=(
            _least("Envoy engine / grpc-go that checks each", names.ENVOY_VERIFY, names.GO_VERIFY, 2.2),
            _least("Envoy engine / grpc-go that remembers", names.ENVOY_VERIFY, names.GO_REMEMBERS, 0.35),
        ),
    ),
    Bar(name="S14", conditions=tuple(map(_two_workers, names.ENGINES))),
    Bar(name="S15", conditions=tuple(each for engine in names.ENGINES for each in _strangers(engine))),
    Bar(
        name="S16",
        conditions=(
            _at_most("ext_authz Check p99 at half load, grpcio", names.CHECK_P99, 2, "ms"),
            _at_most("ext_authz Check p99 at half load, envoy", names.ENVOY_CHECK_P99, 2, "ms"),
            _least("OAuth token endpoint / Issue over gRPC", names.OAUTH, names.ISSUE, 0.5),
        ),
    ),
    Bar(
        name="S17",
        conditions=(
            _at_most("CPU that a guard adds to an empty call, threads", names.GUARD_THREADS, 15, "µs"),
            _at_most("The same, asyncio", names.GUARD_ASYNCIO, 25, "µs"),
        ),
    ),
)


def chosen(wanted: Iterable[str]) -> Sequence[Bar]:
    """Return the bars of these names, or all bars if there is no name."""
    named = {name.upper() for name in wanted}
    return [bar for bar in BARS if not named or bar.name in named]
