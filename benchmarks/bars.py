"""The bars: which side must be how many times as fast as which. Knows nothing of how they are measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.measure import Figures

EMPTY: Final = "empty"
VERIFY: Final = "verify"
ISSUE: Final = "issue"
REFRESH: Final = "refresh"
FASTAPI: Final = "fastapi"
LOAD_CEILING: Final = "load-ceiling"
"""No bar compares it: it shows that the load of `refresh` was not what limited it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """`side` must be at least `at_least` times as fast as `yardstick`."""

    name: str
    meaning: str
    side: str
    yardstick: str
    at_least: float
    also: tuple[str, ...] = ()
    """Sides that are measured beside, for the reader."""

    @property
    def sides(self) -> tuple[str, ...]:
        return (self.side, self.yardstick, *self.also)


BARS: Final = (
    Bar(
        name="B1",
        meaning="Verify (seen token, denylist on) / empty RPC",
        side=VERIFY,
        yardstick=EMPTY,
        at_least=0.90,
    ),
    Bar(
        name="B5",
        meaning="Verify / FastAPI + PyJWT + Redis endpoint",
        side=VERIFY,
        yardstick=FASTAPI,
        at_least=3.0,
    ),
    Bar(
        name="B6",
        meaning="Issue (client secret, ES256) / empty RPC",
        side=ISSUE,
        yardstick=EMPTY,
        at_least=0.60,
    ),
    Bar(
        name="B7",
        meaning="Refresh on Redis / empty RPC",
        side=REFRESH,
        yardstick=EMPTY,
        at_least=0.35,
        also=(LOAD_CEILING,),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A bar as measured."""

    bar: Bar
    side: Figures
    yardstick: Figures

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return self.side.rate / self.yardstick.rate

    @property
    def met(self) -> bool:
        return self.ratio >= self.bar.at_least


def chosen(names: Iterable[str]) -> Sequence[Bar]:
    """The bars of these names; all of them for no name."""
    wanted = {name.upper() for name in names}
    return [bar for bar in BARS if not wanted or bar.name in wanted]


def results(bars: Iterable[Bar], figures: Mapping[str, Figures]) -> list[Result]:
    """Each bar with its two sides."""
    return [Result(bar=bar, side=figures[bar.side], yardstick=figures[bar.yardstick]) for bar in bars]
