"""Plots p50 and p99 of Verify by the load, for each engine, up to its highest rate."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.plots.svg import MARGIN, WIDTH, Canvas, Scale, decades, short, steps

_ENGINES: Final = (("grpcio", "grpcio engine", "one"), ("envoy", "Envoy engine", "two"))
_LEFT: Final = 84
_RIGHT: Final = WIDTH - 70
_TOP: Final = 106
_BOTTOM: Final = 420


def draw(run: Mapping[str, Any]) -> str | None:
    """Draw the engines that were measured."""
    curves = {engine: points for engine, points in run["details"].get("latency", {}).items() if points}
    if not curves:
        return None
    every = [point for points in curves.values() for point in points]
    loads = steps(max(point["offered"] for point in every))
    times = decades(min(point["p50_ms"] for point in every), max(point["p99_ms"] for point in every))
    across = Scale(0, loads[-1], _LEFT, _RIGHT)
    up = Scale(times[0], times[-1], _BOTTOM, _TOP, logarithmic=True)
    canvas = Canvas(
        _BOTTOM + 66,
        "How long a Verify takes, by the load",
        "one core; calls come at random moments, whether or not those before are answered",
    )
    canvas.legend(MARGIN, 82, [(kind, label) for engine, label, kind in _ENGINES if engine in curves])
    for load in loads:
        canvas.path([(across(load), _TOP), (across(load), _BOTTOM)], "grid")
        canvas.text(across(load), _BOTTOM + 20, short(load), "dim small", anchor="middle")
    for time in times:
        canvas.path([(_LEFT, up(time)), (_RIGHT, up(time))], "grid")
        canvas.text(_LEFT - 10, up(time) + 4, f"{time:g} ms", "dim small", anchor="end")
    canvas.text((_LEFT + _RIGHT) / 2, _BOTTOM + 44, "calls offered per second", "dim small", anchor="middle")
    for engine, _, kind in _ENGINES:
        if engine in curves:
            _lines(canvas, across, up, kind, curves[engine])
    return canvas.render()


def _lines(
    canvas: Canvas, across: Scale, up: Scale, kind: str, points: Sequence[Mapping[str, float]]
) -> None:
    last = points[-1]
    for quantile, style in (("p50_ms", "line"), ("p99_ms", "line dotted")):
        at = [(across(point["offered"]), up(point[quantile])) for point in points]
        canvas.path(at, f"{style} {kind}")
        for x, y in at:
            canvas.dot(x, y, f"fill {kind}", 3 if quantile == "p50_ms" else 2.5)
    x = across(last["offered"]) + 10
    # The two labels keep apart where the lines meet.
    high = up(last["p99_ms"])
    low = max(up(last["p50_ms"]), high + 16)
    canvas.text(x, high + 4, "p99", "dim small")
    canvas.text(x, low + 4, "p50", "dim small")
