"""The garbage collector does not interrupt the calls inside Envoy, neither many at once nor one by one."""

import gc
from collections.abc import Iterator

import pytest

from identity_service.process.garbage import collect_seldom, skip_lasting_objects


@pytest.fixture
def spared() -> Iterator[None]:
    """The collector as it is once a service has started inside Envoy."""
    before = gc.get_threshold()
    skip_lasting_objects()
    collect_seldom()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("spared")
def test_thousands_of_calls_that_begin_at_once_bring_no_collection_of_all_objects() -> None:
    """A stranger can open 4,500 calls, of some 30 objects each."""
    before = gc.get_stats()[2]["collections"]
    calls = [[[number] for number in range(30)] for _ in range(4_500)]
    assert gc.get_stats()[2]["collections"] == before
    assert len(calls) == 4_500


@pytest.mark.usefixtures("spared")
def test_calls_that_leave_no_cycles_bring_no_collection() -> None:
    before = gc.get_stats()[0]["collections"]
    for _ in range(1_000):
        calls = [[[number] for number in range(30)] for _ in range(64)]
        assert len(calls) == 64
    assert gc.get_stats()[0]["collections"] == before


@pytest.mark.usefixtures("spared")
def test_the_objects_of_the_service_are_not_traversed() -> None:
    assert len(gc.get_objects()) < gc.get_freeze_count()
