"""The bars of the benchmarks: each is met at its limit, missed beyond it, and open without figures."""

import pytest

from benchmarks import names
from benchmarks.bars import BARS, chosen
from benchmarks.measure import Figures
from benchmarks.verdicts import Verdict, judge
from tests.unit.benchmarks.findings import MEDIANS, every_need, findings


def _verdicts(**others: float) -> dict[str, Verdict]:
    return {result.bar.name: result.verdict for result in judge(BARS, findings(**others))}


def test_there_are_seventeen_bars() -> None:
    assert [bar.name for bar in BARS] == [f"S{number}" for number in range(1, 18)]


def test_all_are_met_at_their_limits() -> None:
    assert every_need() <= MEDIANS.keys()
    assert _verdicts() == dict.fromkeys((bar.name for bar in BARS), Verdict.PASS)


@pytest.mark.parametrize(
    ("bar", "others"),
    [
        ("S1", {"verify": 8_990}),
        ("S2", {"verify_new": 2_990}),
        ("S2", {"envoy_verify_new": 5_800}),
        ("S2", {"raw_es256_verify": 10_100}),
        ("S3", {"verify_batch": 134_000}),
        ("S3", {"envoy_verify_batch": 149_000}),
        ("S4", {"local_seen": 3.01}),
        ("S4", {"local_new": 131}),
        ("S5", {"fastapi": 3_010}),
        ("S6", {"issue_cpu": 151}),
        ("S6", {"envoy_issue": 5_990}),
        ("S7", {"refresh_cpu": 401}),
        ("S7", {"refresh": 3_490}),
        ("S8", {"verify_1000000_denials": 9_490}),
        ("S8", {"bytes_each_denial": 101}),
        ("S8", {"cold_start_seconds": 8.1}),
        ("S9", {"spread_50_watchers_p50": 5.1}),
        ("S9", {"spread_50_watchers_p99": 51}),
        ("S9", {"spread_1000_watchers_p99": 151}),
        ("S9", {"guarded_stream_ends_p99": 251}),
        ("S10", {"envoy_verify": 26_900}),
        ("S11", {"idle_worker_mb": 80.1}),
        ("S11", {"idle_worker_cpu": 1.01}),
        ("S11", {"soak_grpcio_calls": 999_999}),
        ("S11", {"soak_grpcio_growth": 5.1}),
        ("S11", {"soak_envoy_growth": 5.1}),
        ("S11", {"soak_envoy_good": 0.0}),
        ("S11", {"soak_envoy_memory": 251}),
        ("S12", {"verify_p99_beside_sign_ins": 2.61}),
        ("S13", {"go_verify": 12_300}),
        ("S13", {"go_remembers": 77_200}),
        ("S14", {"grpcio_2_workers": 15_900}),
        ("S14", {"envoy_1_workers": 10_100}),
        ("S15", {"strangers_grpcio_p99": 101}),
        ("S15", {"strangers_envoy_failed": 1}),
        ("S16", {"check_p99": 2.1}),
        ("S16", {"envoy_check_p99": 2.1}),
        ("S16", {"oauth_token": 2_990}),
        ("S17", {"guard_adds_threads": 15.1}),
        ("S17", {"guard_adds_asyncio": 25.1}),
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
    found = findings(idle_worker_mb=81)
    del found.figures[names.soak("envoy", "calls")]
    [result] = judge(chosen(["s11"]), found)
    assert result.verdict is Verdict.SHORT


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    """Each round compares what was measured at the same time, so one slow round does not move the verdict."""
    found = findings()
    found.figures[names.EMPTY] = Figures(title="", values=[10.0, 20.0, 30.0])
    found.figures[names.VERIFY] = Figures(title="", values=[9.5, 17.0, 29.0])
    [result] = judge(chosen(["S1"]), found)
    [outcome] = result.outcomes
    assert list(outcome.rounds) == pytest.approx([0.95, 0.85, 29 / 30])
    assert outcome.value == pytest.approx(0.95)


def test_a_side_that_was_measured_while_the_machine_was_slow_is_judged_at_its_usual_pace() -> None:
    found = findings()
    found.figures[names.EMPTY] = Figures(title="", values=[10_000.0])
    found.figures[names.VERIFY] = Figures(title="", values=[4_600.0], pace=[0.5])
    [result] = judge(chosen(["S1"]), found)
    assert result.outcomes[0].value == pytest.approx(0.92)
    assert result.verdict is Verdict.PASS


def test_bars_are_chosen_by_name() -> None:
    assert [bar.name for bar in chosen(["s13", "S2"])] == ["S2", "S13"]
    assert list(chosen([])) == list(BARS)
