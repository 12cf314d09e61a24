"""Counts and durations to which many threads add."""

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from identity_service.telemetry.counters import BOUNDS, Counter, Durations, DurationsByLabels, Histogram

THREADS, TIMES = 8, 5_000


@pytest.fixture
def hurried() -> Iterator[None]:
    """Have the interpreter switch between threads as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(step: Callable[[], object]) -> None:
    def work() -> None:
        for _ in range(TIMES):
            step()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("hurried")
def test_a_count_misses_no_increment_while_it_is_read() -> None:
    counter, seen = Counter(), list[int]()

    def step() -> None:
        counter.increment()
        seen.append(counter.value)

    in_threads(step)

    assert counter.value == counter.value == THREADS * TIMES
    assert max(seen) <= THREADS * TIMES


def test_numbers_and_increments_add_up() -> None:
    counter = Counter()
    counter.increment()
    counter.add(5)
    assert counter.value == 6


@pytest.mark.usefixtures("hurried")
def test_durations_miss_no_event_while_they_are_read() -> None:
    durations = Durations()
    in_threads(lambda: durations.add(0.5))

    found = durations.read()
    assert found == durations.read()
    assert (found.count, found.sum) == (THREADS * TIMES, THREADS * TIMES / 2)


def test_a_duration_counts_in_the_bucket_whose_bound_it_does_not_exceed() -> None:
    durations = Durations()
    for seconds in (0.0, BOUNDS[0], 0.0002, BOUNDS[-1], 11.0):
        durations.add(seconds)

    buckets = durations.read().buckets
    assert (buckets[0], buckets[1], buckets[-2], buckets[-1]) == (2, 1, 1, 1)
    assert sum(buckets) == 5


def test_durations_are_kept_by_the_values_of_their_labels() -> None:
    durations = DurationsByLabels("method", "status")
    durations["GET", "200"].add(1.0)
    durations["GET", "200"].add(2.0)
    assert durations["GET", "404"].read() == Histogram()

    found = durations.read()
    assert found["GET", "200"].sum == 3.0
    assert found["GET", "404"] == Histogram()
