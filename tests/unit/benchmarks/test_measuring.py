"""The measurement of several services in turn: a service that answers wrongly does not affect the others."""

import contextlib
import json
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks import agenda, memory, names, strangers, two_cores
from benchmarks.lineup import Lineup
from benchmarks.measure import Bench, Figures, Findings, Sample, alternate
from benchmarks.peers import build
from benchmarks.processes import BenchmarkError, Cores, StoppedError
from benchmarks.strangers_side import METHODS, Row, Times
from tests.unit.benchmarks.findings import every_need


@dataclass
class Side:
    """A service under measurement, which records when it is measured."""

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
        return Sample(value=self.times, server_busy=1.0, load_busy=0.5)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(root=tmp_path, cores=Cores(server=0, load=1), rounds=3, seconds=2.0, say=lambda _: None)


def test_sides_take_turns_and_the_warm_up_does_not_count(bench: Bench) -> None:
    log = list[str]()
    found = alternate({name: Side(name, log) for name in ("a", "b")}, bench, lambda: 1.0)
    assert log == ["a 0.5", "b 0.5", *["a 2.0", "b 2.0"] * 3]
    assert found.figures["a"].values == [2, 3, 4]
    assert found.figures["a"].median == 3


@pytest.mark.parametrize(("unit", "steady"), [("calls/s", [2.0, 6.0, 4.0]), ("ms", [2.0, 1.5, 4.0])])
def test_each_round_is_set_in_relation_to_the_pace_before_and_after_it(
    bench: Bench, unit: str, steady: list[float]
) -> None:
    """On a machine that is half as fast, a service's rate is halved and its times are doubled."""
    pace = iter([100.0, 100.0, 0.0, 200.0])
    found = alternate({"a": Side("a", [], unit=unit)}, bench, lambda: next(pace))
    assert found.pace == [100.0, 100.0, 0.0, 200.0]
    assert found.figures["a"].pace == [1.0, 0.5, 1.0]
    assert found.figures["a"].values == [2, 3, 4]
    assert found.figures["a"].steady == steady


@pytest.mark.parametrize("wrong_at", [1, 3])
def test_a_side_with_a_wrong_answer_is_out_with_all_its_rounds(bench: Bench, wrong_at: int) -> None:
    log = list[str]()
    found = alternate({"a": Side("a", log), "b": Side("b", log, wrong_at=wrong_at)}, bench, lambda: 1.0)
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
    monkeypatch.setattr(agenda, "TRIALS", trials)
    found = agenda.measure([names.LOCAL_SEEN, names.WORKER_MEMORY], bench)
    assert list(found.figures) == [names.WORKER_MEMORY]
    assert found.absent == {names.LOCAL_SEEN: "it did not start"}


def test_an_interrupt_stops_every_process_of_the_benchmark(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_bench: Bench) -> Findings:
        raise StoppedError("stopped by SIGTERM")

    monkeypatch.setattr(agenda, "TRIALS", [(frozenset({names.LOCAL_SEEN}), stopped)])
    with pytest.raises(StoppedError):
        agenda.measure([names.LOCAL_SEEN], bench)


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
        sides, absent = Lineup(stack, bench).sides([names.NODE_ISSUE])
    assert sides == {}
    assert absent == {names.NODE_ISSUE: "node is not installed"}
    with pytest.raises(BenchmarkError, match="go is not installed"):
        build.go_verify()


def test_a_figure_that_nothing_measures_is_reported_and_not_passed_over(bench: Bench) -> None:
    with contextlib.ExitStack() as stack:
        sides, absent = Lineup(stack, bench).sides(["unheard-of"])
    assert sides == {}
    assert absent == {"unheard-of": "nothing measures it yet (agenda.py)"}


def test_every_figure_of_a_bar_is_measured_in_one_place(bench: Bench) -> None:
    with contextlib.ExitStack() as stack:
        counts = Counter([name for measured, _ in agenda.TRIALS for name in measured])
        counts.update(Lineup(stack, bench).builders().keys())
    assert set(counts.values()) == {1}
    assert every_need() <= counts.keys()


def test_workers_are_counted_by_the_sockets_that_listen() -> None:
    with socket.socket() as one, socket.socket() as two:
        for listener in (one, two):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{one.getsockname()[1]}"
        two.bind(one.getsockname())
        one.listen()
        assert two_cores.listeners(target) == 1
        two.listen()
        assert two_cores.listeners(target) == 2


def test_one_slow_method_beside_one_abuse_is_the_figure_of_all() -> None:
    rows = [_row("none", 3.0, {}), _row("watch", 101.0, {}), _row("bodies", 4.0, {"UNAVAILABLE": 2})]
    figures = strangers.summary("envoy", rows).figures
    assert figures[names.strangers("envoy", "p99")].median == 101.0
    assert figures[names.strangers("envoy", "failed")].median == 2


def _row(abuse: str, p99_ms: float, failures: dict[str, int]) -> Row:
    quick = Times(calls=100, p50_ms=1.0, p99_ms=2.0, max_ms=3.0, failures={})
    slow = Times(calls=100, p50_ms=1.0, p99_ms=p99_ms, max_ms=p99_ms, failures=failures)
    return Row(
        engine="envoy",
        source="127.0.1.1",
        abuse=abuse,
        count=0,
        methods=dict.fromkeys(METHODS, quick) | {"Issue": slow},
        memory_before_mb=1.0,
        memory_most_mb=1.0,
        memory_after_mb=1.0,
        threads_before=1,
        threads_most=1,
        outcomes={},
    )


# A soak takes too long to be part of a run; the run reads its last result.


SOAK = {figure: names.soak("envoy", figure) for figure in ("calls", "growth", "good", "memory")}


def _soak(folder: Path, text: str) -> Findings:
    (folder / "soak.json").write_text(text)
    return memory.soak("envoy", folder / "soak.json")


def test_a_soak_that_has_not_been_run_is_reported_as_missing(tmp_path: Path) -> None:
    found = memory.soak("envoy", tmp_path / "soak.json")
    assert found.figures == {}
    assert found.absent.keys() == set(SOAK.values())


def _said(**others: object) -> str:
    said = {
        "engine": "envoy",
        "calls": 1_200_000,
        "good": True,
        "verdict": {"growth": 2.5, "memory_flat": True},
        "last": {"rss_bytes": 240_000_000},
    }
    return json.dumps(said | others)


@pytest.mark.parametrize("good", [True, False])
def test_a_soak_reports_its_calls_its_growth_its_memory_and_its_verdict(
    tmp_path: Path, *, good: bool
) -> None:
    found = _soak(tmp_path, _said(good=good))
    medians = {figure: found.figures[name].median for figure, name in SOAK.items()}
    assert medians == {"calls": 1_200_000, "growth": 2.5, "good": float(good), "memory": 240.0}


def test_a_soak_with_too_few_calls_does_not_pass(tmp_path: Path) -> None:
    found = _soak(tmp_path, _said(calls=100, verdict={"growth": None}))
    assert found.absent == {SOAK["growth"]: "the soak made too few calls to say how memory grows"}


def test_a_soak_of_one_engine_says_nothing_about_the_other(tmp_path: Path) -> None:
    found = _soak(tmp_path, _said(engine="grpcio"))
    assert found.figures == {}
    assert set(found.absent.values()) == {"soak.json is of the engine grpcio"}


@pytest.mark.parametrize("text", ["", "{}", '{"calls": 1, "verdict": {}, "good": true}', "[]"])
def test_a_soak_that_cannot_be_read_does_not_pass(tmp_path: Path, text: str) -> None:
    found = _soak(tmp_path, text)
    assert found.figures == {}
    assert all("cannot be read" in reason for reason in found.absent.values())
