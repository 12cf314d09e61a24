"""The report of the benchmarks contains the figures, the verdicts, and the names of missing measurements."""

import dataclasses
import json
import re

from benchmarks import names, report
from benchmarks.bars import BARS
from benchmarks.measure import Findings
from benchmarks.verdicts import judge
from tests.unit.benchmarks.findings import findings


def _table(found: Findings) -> str:
    return report.table(found, judge(BARS, found))


def test_every_bar_has_a_line_with_its_ratio_its_verdict_and_its_figures() -> None:
    lines = _table(findings(verify=5_000)).splitlines()
    assert {line.split()[0] for line in lines[2:] if re.match(r"S\d", line)} == {bar.name for bar in BARS}
    [line] = [line for line in lines if line.startswith("S1 ")]
    wanted = ["0.50", "0.50..0.50", "≥", "0.90", "short", "verify", "5,000/s,", "empty", "10,000/s"]
    assert line.split()[-9:] == wanted


def test_a_figure_that_could_not_be_measured_is_named_with_its_reason() -> None:
    found = findings()
    for name in (names.ENVOY_VERIFY, names.GO_EMPTY):
        del found.figures[name]
        found.absent[name] = f"{name} is not there"
    text = _table(found)
    assert re.search(r"^S10  .* - +≥ 3.00 +not measured ", text, re.MULTILINE)
    assert "S10 not measured: envoy-verify is not there" in text
    assert "go-empty left out: go-empty is not there" in text


def test_a_server_that_had_time_left_is_pointed_out() -> None:
    found = findings()
    assert len(report.limits(found)) == 1  # the pace
    found.figures[names.GO_EMPTY] = dataclasses.replace(found.figures[names.GO_EMPTY], server_busy=0.7)
    [line] = report.limits(found)
    assert line.splitlines()[1].startswith("go-empty: the server's core was only 70% busy")


def test_a_machine_that_was_not_idle_is_pointed_out() -> None:
    """While one core checks signatures for comparison, the load's core should be idle; here it was not."""
    found = findings()
    bare = found.figures[names.RAW_VERIFY]
    found.figures[names.RAW_VERIFY] = dataclasses.replace(bare, load_busy=0.3)
    [line] = report.limits(found)
    assert "30% busy: the machine was not idle" in line


def test_a_noisy_machine_is_pointed_out() -> None:
    found = findings()
    assert "NOISY" not in _table(found)
    found.pace = [20_000.0, 20_500.0, 19_800.0, 14_000.0, 15_000.0]
    assert "THE MACHINE WAS NOISY: this varied by" in _table(found)


def test_json_has_every_round_and_every_verdict() -> None:
    found = findings()
    answer = report.as_json(found, judge(BARS, found), rounds=3, seconds=2.0)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["figures"]["verify"]["rounds"] == [4_500, 9_000, 18_000]
    assert [bar["verdict"] for bar in answer["bars"]] == ["pass"] * 17
    [condition] = answer["bars"][0]["conditions"]
    assert (condition["value"], condition["at_least"]) == (0.9, 0.9)
    assert condition["rounds"] == [0.9] * 3
    assert answer["details"] == found.details


def test_numbers_have_as_many_digits_as_mean_something() -> None:
    written = [report.number(value) for value in (123_456.7, 99.44, 1.2345, 0.0123)]
    assert written == ["123,457", "99.4", "1.23", "0.0123"]
