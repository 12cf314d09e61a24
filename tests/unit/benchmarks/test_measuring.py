"""Sides take turns, and a side that answers wrongly does not affect the others."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks import agenda, memory, names
from benchmarks.lineup import Lineup
from benchmarks.measure import Bench, Figures, Findings, Sample, alternate
from benchmarks.peers import build
from benchmarks.processes import BenchmarkError, Cores, StoppedError


@dataclass
class Side:
    """Notes when it is measured."""

    title: str
    log: list[str]
    wrong_at: int = 0
    unit: str = "calls/s"
    times: int = field(default=0, init=False)

    def measure(self, seconds: float) -> Sample:
        self.times += 1
        self.log.append(f"{self.title} {seconds}")
        if self.times == self.wrong_at:
            raise BenchmarkError(f"{self.title} was wrong")
        return Sample(rate=self.times, server_busy=1.0, load_busy=0.5)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(root=tmp_path, cores=Cores(server=0, load=1), rounds=3, seconds=2.0, say=lambda _: None)


def test_sides_take_turns_and_the_warm_up_does_not_count(bench: Bench) -> None:
    log = list[str]()
    found = alternate({name: Side(name, log) for name in ("a", "b")}, bench)
    assert log == ["a 0.5", "b 0.5", *["a 2.0", "b 2.0"] * 3]
    assert found.figures["a"].values == [2, 3, 4]
    assert found.figures["a"].median == 3


@pytest.mark.parametrize("wrong_at", [1, 3])
def test_a_side_with_a_wrong_answer_is_out_with_all_its_rounds(bench: Bench, wrong_at: int) -> None:
    log = list[str]()
    found = alternate({"a": Side("a", log), "b": Side("b", log, wrong_at=wrong_at)}, bench)
    assert list(found.figures) == ["a"]
    assert found.absent == {"b": "b was wrong"}
    assert len([line for line in log if line.startswith("b")]) == wrong_at


def test_a_trial_that_fails_takes_only_its_own_figures_along(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_bench: Bench) -> Findings:
        raise BenchmarkError("it did not start")

    def working(_bench: Bench) -> Findings:
        return Findings(figures={names.WORKER_MEMORY: Figures(title="", values=[1.0])})

    trials: list[tuple[frozenset[str], Callable[[Bench], Findings]]] = [
        (frozenset({names.LOCAL_SEEN}), failing),
        (frozenset({names.WORKER_MEMORY}), working),
    ]
    monkeypatch.setattr(agenda, "_TRIALS", trials)
    found = agenda.measure([names.LOCAL_SEEN, names.WORKER_MEMORY], bench, curves=False)
    assert list(found.figures) == [names.WORKER_MEMORY]
    assert found.absent == {names.LOCAL_SEEN: "it did not start"}


def test_an_interrupt_stops_every_process_of_the_benchmark(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_bench: Bench) -> Findings:
        raise StoppedError("stopped by SIGTERM")

    monkeypatch.setattr(agenda, "_TRIALS", [(frozenset({names.LOCAL_SEEN}), stopped)])
    with pytest.raises(StoppedError):
        agenda.measure([names.LOCAL_SEEN], bench, curves=False)


def test_a_reason_is_one_line_with_the_text_of_the_quoted_log() -> None:
    log = "Traceback\nSyntaxError: Unexpected token\n\nNode.js v20"
    failed = BenchmarkError(f"node ended with code 1; its log ends with:\n{log}")
    assert failed.reason == "node ended with code 1; its log ends with: SyntaxError: Unexpected token"
    frame = "╭─ Error ─╮\n│ No such option: --engine │\n╰──────╯"
    assert BenchmarkError(f"it ended:\n{frame}").reason == "it ended: No such option: --engine"
    assert BenchmarkError("two cores are needed").reason == "two cores are needed"


def test_a_peer_whose_tools_are_missing_is_left_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with contextlib.ExitStack() as stack:
        sides, absent = Lineup(stack, bench).sides([names.NODE])
    assert sides == {}
    assert absent == {names.NODE: "node is not installed"}
    with pytest.raises(BenchmarkError, match="go is not installed"):
        build.go_verify()


# A soak takes too long to be part of a run; the run reads its last result.


def _soak(folder: Path, text: str) -> Findings:
    (folder / "soak.json").write_text(text)
    return memory.soak(folder / "soak.json")


def test_a_soak_that_has_not_been_run_is_reported_as_missing(tmp_path: Path) -> None:
    found = memory.soak(tmp_path / "soak.json")
    assert found.figures == {}
    assert found.absent.keys() == set(memory.SOAK)


@pytest.mark.parametrize("good", [True, False])
def test_a_soak_reports_its_calls_its_growth_and_its_verdict(tmp_path: Path, *, good: bool) -> None:
    said = {"calls": 1_200_000, "good": good, "verdict": {"growth": 2.5, "memory_flat": True}}
    found = _soak(tmp_path, json.dumps(said))
    medians = {name: found.figures[name].median for name in memory.SOAK}
    expected = {names.SOAK_CALLS: 1_200_000, names.SOAK_GROWTH: 2.5, names.SOAK_GOOD: float(good)}
    assert medians == expected


def test_a_soak_with_too_few_calls_does_not_pass(tmp_path: Path) -> None:
    found = _soak(tmp_path, json.dumps({"calls": 100, "good": True, "verdict": {"growth": None}}))
    assert found.absent == {names.SOAK_GROWTH: "the soak made too few calls to say how memory grows"}


@pytest.mark.parametrize("text", ["", "{}", '{"calls": 1, "verdict": {}, "good": true}', "[]"])
def test_a_soak_that_cannot_be_read_does_not_pass(tmp_path: Path, text: str) -> None:
    found = _soak(tmp_path, text)
    assert found.figures == {}
    assert all("cannot be read" in reason for reason in found.absent.values())
