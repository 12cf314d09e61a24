"""Plots the time of a Verify by the length of the denylist, beside a service without denials."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.plots.svg import MARGIN, WIDTH, Canvas, Scale, short, steps

_LEFT: Final = 84
_RIGHT: Final = WIDTH - 40
_TOP: Final = 112
_BOTTOM: Final = 350
_WIDE: Final = 44
_APART: Final = 25
"""The distance from the middle of a pair to the middle of each of its bars."""


def draw(run: Mapping[str, Any]) -> str | None:
    """Draw the sizes that were measured."""
    rows: Sequence[Mapping[str, Any]] = run["details"].get("denylist", ())
    if not rows:
        return None
    costs = [(row["denials"], _costs(row["verify_when_empty"]), _costs(row["verify"])) for row in rows]
    marks = steps(max(max(without + having) for _, without, having in costs))
    up = Scale(0, marks[-1], _BOTTOM, _TOP)
    place = Scale(-0.5, len(costs) - 0.5, _LEFT, _RIGHT)
    canvas = Canvas(
        _BOTTOM + 84,
        "What a Verify costs, by the length of the denylist",
        "time of one call on one core; each pair was measured in turn, median and range of its rounds",
    )
    canvas.legend(MARGIN, 82, [("one", "with so many live denials"), ("other", "with none")])
    for mark in marks:
        canvas.path([(_LEFT, up(mark)), (_RIGHT, up(mark))], "grid")
        canvas.text(_LEFT - 10, up(mark) + 4, f"{mark:g} µs", "dim small", anchor="end")
    for index, (denials, without, having) in enumerate(costs):
        x = place(index)
        _bar(canvas, x - _APART, up, without, "other", "0")
        _bar(canvas, x + _APART, up, having, "one", short(denials))
        ratio = statistics.median(without) / statistics.median(having)
        canvas.text(x, _BOTTOM + 42, f"{ratio:.1%} of the rate", "dim small", anchor="middle")
    canvas.text((_LEFT + _RIGHT) / 2, _BOTTOM + 68, "live denials", "dim small", anchor="middle")
    return canvas.render()


def _costs(rates: Sequence[float]) -> list[float]:
    """Return the microseconds of one call at each rate."""
    return [1e6 / rate for rate in rates]


def _bar(canvas: Canvas, x: float, up: Scale, costs: Sequence[float], kind: str, label: str) -> None:
    top = up(statistics.median(costs))
    canvas.rectangle(x - _WIDE / 2, top, _WIDE, up(0) - top, f"fill {kind}")
    canvas.path([(x, up(min(costs))), (x, up(max(costs)))], "range")
    canvas.text(x, up(0) + 20, label, "small", anchor="middle")
