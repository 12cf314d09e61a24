"""The CPU cores of workers: each has its own if there are enough, and a missing core stops no worker."""

import os
import subprocess
import sys

import pytest

from identity_service.process.cores import of_workers, on_core

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these calls")
_PRINT = "import os; print(*sorted(os.sched_getaffinity(0)))"


def cores_of_a_child() -> set[int]:
    run = subprocess.run([sys.executable, "-c", _PRINT], capture_output=True, text=True, check=True)
    return {int(word) for word in run.stdout.split()}


def test_as_many_workers_as_cores_have_one_each() -> None:
    cores = os.sched_getaffinity(0)

    assert of_workers(len(cores)) == sorted(cores)


@pytest.mark.parametrize("difference", [-1, 1])
def test_fewer_or_more_workers_than_cores_have_none(difference: int) -> None:
    assert not of_workers(len(os.sched_getaffinity(0)) + difference)


def test_a_process_that_is_started_on_a_core_stays_there_and_its_parent_does_not() -> None:
    before = os.sched_getaffinity(0)
    with on_core(max(before)):
        assert cores_of_a_child() == {max(before)}

    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("core", [None, 1_000_000], ids=["none", "gone"])
def test_without_a_core_a_process_runs_on_any(core: int | None) -> None:
    with on_core(core):
        assert cores_of_a_child() == os.sched_getaffinity(0)
