"""The bars: the figures that are compared, and their limits.

The module does not know how figures are measured.
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
    """A function that computes the value from the medians of `needs`, in their order."""
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


def _ratio(meaning: str, one: str, other: str, limit: float, *, at_most: bool = False) -> Condition:
    return Condition(meaning=meaning, needs=(one, other), value=_over, limit=limit, at_most=at_most)


def _at_most(meaning: str, name: str, limit: float, unit: str) -> Condition:
    return Condition(meaning=meaning, needs=(name,), value=float, limit=limit, at_most=True, unit=unit)


def _of_the_possible(new: float, empty: float, raw: float) -> float:
    """Return the rate as a fraction of that of a call that takes 1/empty + 1/raw: RPC and signature alone."""
    return new * (1 / empty + 1 / raw)


def _spread(watchers: int, quantile: str, limit: float) -> Condition:
    meaning = f"Revoke → all know, {watchers:,} watchers, {quantile}"
    return _at_most(meaning, names.spread(watchers, quantile), limit, "ms")


BARS: Final = (
    Bar(
        name="B1",
        conditions=(_ratio("Verify (seen token, denylist on) / empty RPC", names.VERIFY, names.EMPTY, 0.90),),
    ),
    Bar(
        name="B2",
        conditions=(
            Condition(
                meaning="Verify (new token, ES256) / what RPC and raw verify allow",
                needs=(names.VERIFY_NEW, names.EMPTY, names.RAW_VERIFY),
                value=_of_the_possible,
                limit=0.80,
            ),
        ),
        also=(names.LOAD_CEILING,),
    ),
    Bar(
        name="B3",
        conditions=(_ratio("VerifyBatch of 100, per token / Verify", names.BATCH, names.VERIFY, 15),),
    ),
    Bar(
        name="B4",
        conditions=(
            _at_most("Local verification, seen token", names.LOCAL_SEEN, 3, "µs"),
            _ratio(
                "Local verification, new token / raw ES256",
                names.LOCAL_NEW,
                names.LOCAL_RAW,
                1.4,
                at_most=True,
            ),
        ),
    ),
    Bar(
        name="B5",
        conditions=(_ratio("Verify / FastAPI + PyJWT + Redis endpoint", names.VERIFY, names.FASTAPI, 3.0),),
        also=(names.NODE,),
    ),
    Bar(
        name="B6",
        conditions=(_ratio("Issue (client secret, ES256) / empty RPC", names.ISSUE, names.EMPTY, 0.60),),
        also=(names.ENVOY_ISSUE,),
    ),
    Bar(
        name="B7",
        conditions=(_ratio("Refresh on Redis / empty RPC", names.REFRESH, names.EMPTY, 0.35),),
        also=(names.LOAD_CEILING,),
    ),
    Bar(
        name="B8",
        conditions=(
            _ratio("Verify, 1,000,000 denials / none", names.DENIALS_FULL, names.DENIALS_NONE, 0.95),
            _at_most("Memory of each of 1,000,000 denials", names.DENIAL_BYTES, 160, "bytes"),
            _at_most("Replica of 1,000,000 denials, from cold", names.COLD_START, 15, "s"),
        ),
        also=(names.REPLICA_ALONE,),
    ),
    Bar(
        name="B9",
        conditions=(
            _spread(names.FEW_WATCHERS, "p50", 5),
            _spread(names.FEW_WATCHERS, "p99", 50),
            _spread(names.MANY_WATCHERS, "p99", 150),
        ),
        also=(names.spread(names.MANY_WATCHERS, "p50"),),
    ),
    Bar(
        name="B10",
        conditions=(_ratio("Verify, Envoy engine / grpcio engine", names.ENVOY_VERIFY, names.VERIFY, 3),),
    ),
    Bar(
        name="B11",
        conditions=(
            _at_most("Memory of an idle worker", names.WORKER_MEMORY, 90, "MB"),
            Condition(
                meaning="Soak: calls that it went through",
                needs=(names.SOAK_CALLS,),
                value=float,
                limit=1_000_000,
            ),
            _at_most("Soak: growth in a million calls", names.SOAK_GROWTH, 5, "MB"),
            Condition(
                meaning="Soak: answers, descriptors and threads as they must be",
                needs=(names.SOAK_GOOD,),
                value=float,
                limit=1,
            ),
        ),
    ),
    Bar(
        name="B12",
        conditions=(
            _ratio(
                "Verify p99 beside 64 sign-ins / without",
                names.BESIDE_P99,
                names.ALONE_P99,
                2,
                at_most=True,
            ),
        ),
    ),
    Bar(
        name="B13",
        conditions=(
            _ratio("Envoy engine / grpc-go that checks each", names.ENVOY_VERIFY, names.GO_VERIFY, 2.2),
            _ratio("Envoy engine / grpc-go that remembers", names.ENVOY_VERIFY, names.GO_REMEMBERS, 0.3),
            # Its calls of one token: the other way to have many verified.
            _ratio("VerifyBatch of 100 / the same", names.ENVOY_BATCH, names.GO_REMEMBERS, 2.5),
        ),
        also=(names.GO_EMPTY, names.GO_BATCH),
    ),
    Bar(
        name="B14",
        conditions=(
            _at_most("Revoke → open stream ended, 1,000 streams, p99", names.STREAM_ENDS, 250, "ms"),
        ),
    ),
)


def chosen(wanted: Iterable[str]) -> Sequence[Bar]:
    """Return the bars of these names, or all bars if there is no name."""
    named = {name.upper() for name in wanted}
    return [bar for bar in BARS if not named or bar.name in named]
