"""SVG: a canvas, its colours on light and dark pages, and scales. The module knows nothing of benchmarks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr

WIDTH: Final = 860
MARGIN: Final = 24
_LETTER: Final = 7.0
"""The approximate width of a letter, since no font is read."""
_STYLE: Final = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif }
text { fill: #1f2328 }
.title { font-size: 17px; font-weight: 600 }
.dim { fill: #59636e }
.small { font-size: 12px }
.strong { font-weight: 600 }
.page { fill: #ffffff; stroke: #d1d9e0 }
.grid { stroke: #d1d9e0; stroke-width: 1; fill: none }
.range { stroke: #1f2328; stroke-opacity: .55; stroke-width: 1.5; fill: none }
.fill.one { fill: #0969da } .fill.two { fill: #bc4c00 } .fill.other { fill: #afb8c1 }
.line.one { stroke: #0969da } .line.two { stroke: #bc4c00 }
.line { stroke-width: 2.25; fill: none; stroke-linejoin: round; stroke-linecap: round }
.dotted { stroke-dasharray: 1 5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .dim { fill: #9198a1 }
  .page { fill: #0d1117; stroke: #3d444d }
  .grid { stroke: #2f353d }
  .range { stroke: #e6edf3 }
  .fill.one { fill: #4493f8 } .fill.two { fill: #f0883e } .fill.other { fill: #656c76 }
  .line.one { stroke: #4493f8 } .line.two { stroke: #f0883e }
}
"""


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale that maps values to pixels."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)


class Canvas:
    """A canvas that collects elements; `render` returns the text of the file."""

    def __init__(self, height: float, title: str, subtitle: str) -> None:
        self._height = height
        self._title = title
        self._elements: list[str] = []
        self.text(MARGIN, 34, title, "title")
        self.text(MARGIN, 56, subtitle, "dim")

    def text(self, x: float, y: float, words: str, kind: str = "", *, anchor: str = "start") -> None:
        """Add a text whose baseline is at y."""
        self._add("text", {"x": _n(x), "y": _n(y), "class": kind, "text-anchor": anchor}, words)

    def legend(self, x: float, y: float, entries: Iterable[tuple[str, str]]) -> None:
        """Add a legend of the colours: each kind with its text."""
        for kind, words in entries:
            self.rectangle(x, y - 10, 12, 12, f"fill {kind}")
            self.text(x + 18, y, words, "dim")
            x += 18 + len(words) * _LETTER + 22

    def rectangle(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        self._add(
            "rect",
            {
                "x": _n(x),
                "y": _n(y),
                "width": _n(width),
                "height": _n(height),
                "rx": "2",
                "class": kind,
            },
        )

    def path(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        """Add straight lines from point to point."""
        self._add("path", {"d": "M" + " L".join(f"{_n(x)} {_n(y)}" for x, y in points), "class": kind})

    def dot(self, x: float, y: float, kind: str, radius: float = 3.5) -> None:
        self._add("circle", {"cx": _n(x), "cy": _n(y), "r": _n(radius), "class": kind})

    def render(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_n(self._height)}" '
            f'width="{WIDTH}" height="{_n(self._height)}" role="img" aria-label={quoteattr(self._title)}>'
        )
        page = (
            f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{_n(self._height - 1)}" rx="8" class="page"/>'
        )
        return "\n".join([head, f"<style>{_STYLE}</style>", page, *self._elements, "</svg>", ""])

    def _add(self, name: str, attributes: dict[str, str], words: str = "") -> None:
        written = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items() if value)
        self._elements.append(
            f"<{name}{written}>{escape(words)}</{name}>" if words else f"<{name}{written}/>"
        )


def steps(highest: float, most: int = 6) -> Sequence[float]:
    """Return round numbers from 0 to at least `highest`, in at most `most` steps."""
    unit = 10 ** math.floor(math.log10(highest / most))
    step = next(unit * times for times in (1, 2, 2.5, 5, 10, 20) if unit * times * most >= highest)
    return [step * count for count in range(math.ceil(highest / step - 1e-9) + 1)]


def decades(lowest: float, highest: float) -> Sequence[float]:
    """Return the powers of ten that enclose both values."""
    first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def short(value: float) -> str:
    """Return a number in short form: 12,300 → 12k."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
