"""Plots the samples of a soak: memory, descriptors and threads over the calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.plots.svg import WIDTH, Canvas, Scale, short, steps
from benchmarks.soak_verdict import Sample

_LEFT: Final = 84
_RIGHT: Final = WIDTH - 40
_TOP: Final = 112
_PANEL: Final = 110
_GAP: Final = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    title: str
    value: Callable[[Sample], float]


_PANELS: Final = (
    _Panel(title="resident memory, MB", value=lambda sample: sample.rss_bytes / 1e6),
    _Panel(title="file descriptors", value=lambda sample: sample.descriptors),
    _Panel(title="threads", value=lambda sample: sample.threads),
)


def draw(samples: Sequence[Sample]) -> str:
    """Draw a panel for each value. Every scale begins at 0, so that growth has its true proportion."""
    marks = steps(max(sample.calls for sample in samples) or 1, 5)
    along = Scale(0, marks[-1], _LEFT, _RIGHT)
    foot = _TOP + len(_PANELS) * (_PANEL + _GAP) - _GAP
    canvas = Canvas(
        foot + 64,
        "Memory, descriptors and threads over the calls",
        "all processes of the server together; every scale begins at 0",
    )
    for number, panel in enumerate(_PANELS):
        _draw_panel(canvas, panel, samples, along, top=_TOP + number * (_PANEL + _GAP))
    for mark in marks:
        canvas.text(along(mark), foot + 20, short(mark), "dim small", anchor="middle")
    canvas.text((_LEFT + _RIGHT) / 2, foot + 44, "calls", "dim small", anchor="middle")
    return canvas.render()


def _draw_panel(
    canvas: Canvas, panel: _Panel, samples: Sequence[Sample], along: Scale, *, top: float
) -> None:
    marks = steps(max(map(panel.value, samples)), 3)
    up = Scale(0, marks[-1], top + _PANEL, top)
    canvas.text(_LEFT, top - 12, panel.title, "strong small")
    for mark in marks:
        canvas.path([(_LEFT, up(mark)), (_RIGHT, up(mark))], "grid")
        canvas.text(_LEFT - 10, up(mark) + 4, f"{mark:g}", "dim small", anchor="end")
    canvas.path([(along(sample.calls), up(panel.value(sample))) for sample in samples], "line one")
