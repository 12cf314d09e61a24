"""Plots the throughput of each path and peer: a bar for each, on a scale of powers of ten."""

from collections.abc import Mapping
from typing import Any, Final

from benchmarks import names
from benchmarks.plots.svg import MARGIN, WIDTH, Canvas, Scale, decades, short
from benchmarks.report import number

_OURS, _PEER = "one", "other"
GROUPS: Final = (
    (
        "One token, checked again and again",
        (
            (names.VERIFY, "Verify", _OURS),
            (names.ENVOY_VERIFY, "Verify, Envoy engine", _OURS),
            (names.LOCAL_SEEN, "Python client, local", _OURS),
            (names.GO_VERIFY, "grpc-go, ES256 + denylist", _PEER),
            (names.GO_REMEMBERS, "grpc-go that remembers", _PEER),
            (names.FASTAPI, "FastAPI + PyJWT + Redis", _PEER),
            (names.NODE, "node oidc-provider", _PEER),
        ),
    ),
    (
        "A new token each time",
        (
            (names.VERIFY_NEW, "Verify", _OURS),
            (names.ENVOY_VERIFY_NEW, "Verify, Envoy engine", _OURS),
            (names.LOCAL_NEW, "Python client, local", _OURS),
            (names.RAW_VERIFY, "bare ES256 signature check", _PEER),
        ),
    ),
    (
        "100 tokens in one call, tokens/s",
        (
            (names.BATCH, "VerifyBatch", _OURS),
            (names.ENVOY_BATCH, "VerifyBatch, Envoy engine", _OURS),
            (names.GO_BATCH, "grpc-go that remembers", _PEER),
        ),
    ),
    (
        "Writes",
        (
            (names.ISSUE, "Issue", _OURS),
            (names.ENVOY_ISSUE, "Issue, Envoy engine", _OURS),
            (names.OAUTH, "OAuth token endpoint", _OURS),
            (names.NODE_ISSUE, "node oidc-provider", _PEER),
            (names.REFRESH, "Refresh", _OURS),
        ),
    ),
    (
        "An empty call",
        ((names.EMPTY, "grpcio", _PEER), (names.GO_EMPTY, "grpc-go", _PEER)),
    ),
)
_LEFT: Final = 240
_RIGHT: Final = WIDTH - 90
_TOP: Final = 96
_ROW: Final = 24
_HEADING: Final = 34
_MICROSECONDS: Final = "µs"


def draw(run: Mapping[str, Any]) -> str | None:
    """Draw the sides that were measured."""
    groups = [(heading, [row for row in rows if row[0] in run["figures"]]) for heading, rows in GROUPS]
    groups = [(heading, rows) for heading, rows in groups if rows]
    if not groups:
        return None
    rates = {name: _rates(run["figures"][name]) for _, rows in groups for name, _, _ in rows}
    marks = decades(min(map(min, rates.values())), max(map(max, rates.values())))
    scale = Scale(marks[0], marks[-1], _LEFT, _RIGHT, logarithmic=True)
    bottom = _TOP + sum(_HEADING + _ROW * len(rows) for _, rows in groups) + 6
    canvas = Canvas(
        bottom + 50,
        "How many a second, on one core",
        "all in one run on the same core; each line of the scale is ten times the one before",
    )
    canvas.legend(MARGIN, 82, [(_OURS, "this service"), (_PEER, "what it is compared with")])
    for mark in marks:
        canvas.path([(scale(mark), _TOP), (scale(mark), bottom)], "grid")
        canvas.text(scale(mark), bottom + 20, short(mark), "dim small", anchor="middle")
    canvas.text(
        _RIGHT,
        bottom + 38,
        "per second, median of the rounds; thin line: slowest to fastest",
        "dim small",
        anchor="end",
    )
    y = float(_TOP)
    for heading, rows in groups:
        y += _HEADING
        canvas.text(MARGIN, y - 10, heading, "strong")
        for name, label, kind in rows:
            _row(canvas, scale, y, label, kind, rates[name], run["figures"][name])
            y += _ROW
    return canvas.render()


def _row(
    canvas: Canvas,
    scale: Scale,
    y: float,
    label: str,
    kind: str,
    rates: list[float],
    figure: Mapping[str, Any],
) -> None:
    middle, rate = y + _ROW / 2 - 2, _rate(figure["median"], figure["unit"])
    canvas.text(_LEFT - 12, middle + 4.5, label, anchor="end")
    canvas.rectangle(scale.start, y + 2, scale(rate) - scale.start, _ROW - 8, f"fill {kind}")
    canvas.path([(scale(min(rates)), middle), (scale(max(rates)), middle)], "range")
    canvas.text(
        scale(max(rates)) + 8, middle + 4.5, number(rate), "small strong" if kind == _OURS else "small"
    )


def _rates(figure: Mapping[str, Any]) -> list[float]:
    return [_rate(value, figure["unit"]) for value in figure["rounds"]]


def _rate(value: float, unit: str) -> float:
    return 1e6 / value if unit == _MICROSECONDS else value
