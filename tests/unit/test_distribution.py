"""The order of the tests: some processes compute while others wait, and each test runs once."""

from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from tests.distribution import pytest_xdist_make_scheduler

WAITING = [f"tests/faults/test_{letter}.py::test_{number}" for letter in "ab" for number in range(6)]
COMPUTING = [f"tests/unit/test_{letter}.py::test_{number}" for letter in "abcd" for number in range(3)]
ALL = [*WAITING, *COMPUTING]


@dataclass(eq=False)
class Worker:
    """A process of the test run, as the scheduler of pytest-xdist sees it."""

    given: list[int] = field(default_factory=list)
    """The indices of the tests that the process was told to run."""
    ended: int = 0
    shutting_down: bool = False
    gateway: Any = None

    def send_runtest_some(self, numbers: list[int]) -> None:
        self.given += numbers

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def tests(self) -> list[str]:
        return [ALL[number] for number in self.given]


@pytest.fixture
def workers() -> list[Worker]:
    return [Worker(gateway=SimpleNamespace(id=f"gw{number}")) for number in range(4)]


@pytest.fixture
def scheduling(pytestconfig: pytest.Config, workers: list[Worker], monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {"dist": "loadscope", "tx": ["popen"] * 4, "loadscopereorder": False}.items():
        monkeypatch.setattr(pytestconfig.option, name, value)
    scheduling = pytest_xdist_make_scheduler(pytestconfig, None)
    for worker in workers:
        scheduling.add_node(worker)
        scheduling.add_node_collection(worker, ALL)
    scheduling.schedule()
    return scheduling


def test_one_process_of_four_begins_with_tests_that_compute_and_the_others_with_tests_that_wait(
    workers: list[Worker], scheduling: Any
) -> None:
    begun = [{test in WAITING for test in worker.tests} for worker in workers]

    assert scheduling.has_pending
    assert begun == [{False}, {True}, {True}, {True}]


def test_every_test_is_run_once_and_every_process_has_work_until_there_is_none(
    workers: list[Worker], scheduling: Any
) -> None:
    while not scheduling.tests_finished:
        for worker in workers:
            if worker.ended < len(worker.given):
                worker.ended += 1
                scheduling.mark_test_complete(worker, worker.given[worker.ended - 1])

    assert Counter(test for worker in workers for test in worker.tests) == Counter(ALL)
    assert {test in WAITING for worker in workers[1:] for test in worker.tests} == {False, True}


def test_a_module_stays_in_one_process_unless_its_tests_share_nothing(
    workers: list[Worker], scheduling: Any
) -> None:
    del scheduling
    first, second, *_ = workers

    assert first.tests[:3] == COMPUTING[:3]
    assert second.tests[0] == WAITING[0]
    assert WAITING[1] not in second.tests
