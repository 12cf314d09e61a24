"""The bars: each is met at its limit, short beyond it, and never passed without its figures."""

import pytest

from benchmarks import names
from benchmarks.bars import BARS, chosen
from benchmarks.verdicts import Verdict, judge
from tests.unit.benchmarks.findings import MEDIANS, every_need, findings


def _verdicts(**others: float) -> dict[str, Verdict]:
    return {result.bar.name: result.verdict for result in judge(BARS, findings(**others))}


def test_there_are_thirteen_bars() -> None:
    assert [bar.name for bar in BARS] == [f"B{number}" for number in range(1, 15)]


def test_all_are_met_at_their_limits() -> None:
    assert every_need() <= MEDIANS.keys()
    assert _verdicts() == dict.fromkeys((bar.name for bar in BARS), Verdict.PASS)


@pytest.mark.parametrize(
    ("bar", "others"),
    [
        ("B1", {"verify": 8_990}),
        ("B2", {"verify_new": 3_990}),
        ("B2", {"raw_es256_verify": 10_100}),
        ("B3", {"verify_batch": 134_000}),
        ("B4", {"local_seen": 3.01}),
        ("B4", {"local_new": 141}),
        ("B5", {"fastapi": 3_010}),
        ("B6", {"issue": 5_990}),
        ("B7", {"refresh": 3_490}),
        ("B8", {"verify_1000000_denials": 9_490}),
        ("B8", {"bytes_each_denial": 161}),
        ("B8", {"cold_start_seconds": 15.1}),
        ("B9", {"spread_50_watchers_p50": 5.1}),
        ("B9", {"spread_50_watchers_p99": 51}),
        ("B9", {"spread_1000_watchers_p99": 151}),
        ("B10", {"envoy_verify": 26_900}),
        ("B11", {"idle_worker_mb": 90.1}),
        ("B11", {"soak_calls": 999_999}),
        ("B11", {"soak_growth": 5.1}),
        ("B11", {"soak_good": 0.0}),
        ("B12", {"verify_p99_beside_sign_ins": 2.01}),
        ("B13", {"go_verify": 12_300}),
        ("B13", {"go_remembers": 90_100}),
        ("B13", {"envoy_verify_batch": 149_000}),
        ("B14", {"guarded_stream_ends_p99": 251}),
    ],
)
def test_a_bar_is_short_beyond_each_of_its_limits(bar: str, others: dict[str, float]) -> None:
    assert _verdicts(**others)[bar] is Verdict.SHORT


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: bar.name)
def test_a_bar_without_one_of_its_figures_is_not_passed(bar: object) -> None:
    for one in BARS:
        for condition in one.conditions if one is bar else ():
            for name in condition.needs:
                found = findings()
                del found.figures[name]
                found.absent[name] = "the tool is not installed"
                [result] = judge([one], found)
                assert result.verdict is Verdict.NOT_MEASURED
                assert "the tool is not installed" in {outcome.reason for outcome in result.outcomes}


def test_a_missed_bar_stays_missed_if_another_figure_of_it_is_unknown() -> None:
    found = findings(idle_worker_mb=95)
    del found.figures[names.SOAK_CALLS]
    [result] = judge(chosen(["b11"]), found)
    assert result.verdict is Verdict.SHORT


def test_bars_are_chosen_by_name() -> None:
    assert [bar.name for bar in chosen(["b13", "B2"])] == ["B2", "B13"]
    assert list(chosen([])) == list(BARS)
