"""Plots: the same run gives the same file, and a larger figure gives a longer bar."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.bars import BARS
from benchmarks.plots import __main__ as plots
from benchmarks.plots import throughput
from benchmarks.plots.svg import Scale, decades, short, steps
from benchmarks.report import as_json
from benchmarks.verdicts import judge
from tests.unit.benchmarks.findings import SIZES, findings

SVG = "{http://www.w3.org/2000/svg}"


def _run(**others: float) -> dict[str, Any]:
    found = findings(**others)
    return as_json(found, judge(BARS, found), rounds=3, seconds=2.0)


@pytest.mark.parametrize("name", plots.PLOTS)
def test_a_plot_is_svg_that_depends_on_the_run_alone(name: str) -> None:
    draw = plots.PLOTS[name]
    first, again = draw(_run()), draw(json.loads(json.dumps(_run())))
    assert first is not None
    assert first == again
    assert ET.fromstring(first).tag == f"{SVG}svg"  # noqa: S314  # our own text
    assert "prefers-color-scheme: dark" in first


@pytest.mark.parametrize("name", plots.PLOTS)
def test_a_plot_without_a_measurement_is_not_drawn(name: str) -> None:
    assert plots.PLOTS[name]({"figures": {}, "details": {}}) is None


def _bar_after(svg: str, label: str) -> float:
    """Return the length of the first bar after this label."""
    found = re.search(re.escape(f">{label}</text>") + r'\n<rect [^>]*width="([\d.]+)"', svg)
    assert found, label
    return float(found[1])


def test_bars_are_as_long_as_their_rates_say() -> None:
    svg = throughput.draw(_run()) or ""
    # On a scale of powers of ten the same factor is the same length.
    grpcio, go = _bar_after(svg, "grpcio"), _bar_after(svg, "grpc-go")
    faster = throughput.draw(_run(empty=70_000.0)) or ""
    assert grpcio < go
    assert _bar_after(faster, "grpcio") == _bar_after(faster, "grpc-go") == go


def test_a_figure_that_was_not_measured_is_left_out() -> None:
    run = _run()
    del run["figures"]["go-empty"]
    assert ">grpc-go</text>" not in (throughput.draw(run) or "")


def test_time_is_shown_as_a_rate_beside_rates() -> None:
    assert ">333,333</text>" in (throughput.draw(_run()) or "")  # 3 µs


def test_every_size_of_the_denylist_has_its_ratio() -> None:
    svg = plots.PLOTS["denylist.svg"](_run()) or ""
    assert svg.count("100.0% of the rate") == len(SIZES)
    assert [short(size) for size in SIZES] == ["1k", "1M"]


def test_files_are_written_and_the_missing_one_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run()
    run["details"].pop("latency")
    (tmp_path / "bench.json").write_text(json.dumps(run))
    monkeypatch.setattr("sys.argv", ["plots", str(tmp_path / "bench.json"), "--folder", str(tmp_path)])
    assert plots.main() == 1
    assert {path.name for path in tmp_path.glob("*.svg")} == {"throughput.svg", "denylist.svg"}
    assert "latency.svg" in capsys.readouterr().err


def test_scales() -> None:
    assert Scale(0, 10, 100, 200)(5) == 150
    assert Scale(1, 100, 0, 20, logarithmic=True)(10) == pytest.approx(10)
    assert list(steps(23_000)) == [0, 5_000, 10_000, 15_000, 20_000, 25_000]
    assert list(steps(150)) == [0, 25, 50, 75, 100, 125, 150]
    assert list(decades(0.2, 38)) == [0.1, 1, 10, 100]
