"""Draws what the soak sampled: memory, descriptors and threads over the calls, as an SVG.

Colours that stand out from white and from black, since a page may be either.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.soak_verdict import Sample

_WIDTH: Final = 760
_LEFT: Final = 64
_RIGHT: Final = 40
_TOP: Final = 34
_PANEL: Final = 110
_GAP: Final = 42
_BOTTOM: Final = 40
_INK: Final = "#7a8290"
_STEPS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    title: str
    colour: str
    value: Callable[[Sample], float]


_PANELS: Final = (
    _Panel(title="resident memory, MB", colour="#3b82f6", value=lambda sample: sample.rss_bytes / 1e6),
    _Panel(title="file descriptors", colour="#e0742f", value=lambda sample: sample.descriptors),
    _Panel(title="threads", colour="#1f9d6b", value=lambda sample: sample.threads),
)


def draw(samples: Sequence[Sample]) -> str:
    """An SVG with a panel for each; every scale begins at 0, so that flat looks flat and growth as it is."""
    height = _TOP + len(_PANELS) * (_PANEL + _GAP) - _GAP + _BOTTOM
    most = max(sample.calls for sample in samples) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="sans-serif" font-size="12" fill="{_INK}">'
    ]
    for number, panel in enumerate(_PANELS):
        parts += _draw_panel(panel, samples, most, top=_TOP + number * (_PANEL + _GAP))
    foot = height - _BOTTOM
    for step in range(_STEPS + 1):
        calls = most * step / _STEPS
        parts.append(_text(_x(calls, most), foot + 16, f"{calls:,.0f}", "middle"))
    parts += [_text((_LEFT + _WIDTH - _RIGHT) / 2, foot + 33, "calls", "middle"), "</svg>"]
    return "\n".join(parts) + "\n"


def _draw_panel(panel: _Panel, samples: Sequence[Sample], most: int, *, top: float) -> Iterable[str]:
    values = [panel.value(sample) for sample in samples]
    ceiling = _round_up(max(values))
    floor = top + _PANEL
    yield _text(_LEFT, top - 10, panel.title, "start", colour=panel.colour)
    for part in (0.0, 0.5, 1.0):
        y = floor - part * _PANEL
        yield (
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="{_INK}" '
            f'stroke-opacity="{0.7 if part == 0 else 0.25}"/>'
        )
        yield _text(_LEFT - 8, y + 4, f"{ceiling * part:g}", "end")
    points = " ".join(
        f"{_x(sample.calls, most):.1f},{floor - value / ceiling * _PANEL:.1f}"
        for sample, value in zip(samples, values, strict=True)
    )
    yield f'<polyline points="{points}" fill="none" stroke="{panel.colour}" stroke-width="2"/>'


def _x(calls: float, most: int) -> float:
    return _LEFT + calls / most * (_WIDTH - _LEFT - _RIGHT)


def _round_up(value: float) -> float:
    """To what has half of it as a short number too."""
    size = 10.0
    while size < value:
        size *= 10
    return next((size * part for part in (0.2, 0.4, 0.6, 0.8) if size * part >= value), size)


def _text(x: float, y: float, text: str, anchor: str, *, colour: str = _INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'
