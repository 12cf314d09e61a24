"""Refusals of calls: which addresses are refused at once, and when the others are answered."""

import pytest

from identity_service.transport.refusals import RefusalTurns, Strikes
from tests.fakes.clocks import MonotonicClock

ADDRESS, OTHER = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def clock() -> MonotonicClock:
    return MonotonicClock()


def test_a_strike_counts_for_five_seconds_and_for_its_address_alone(clock: MonotonicClock) -> None:
    strikes = Strikes(clock)
    strikes.add(ADDRESS)
    found = []

    for seconds in (0.0, 4.9, 5.0):
        clock.now = 1000.0 + seconds
        found.append((strikes.has(ADDRESS), strikes.has(OTHER)))

    assert found == [(True, False), (True, False), (False, False)]


def test_another_strike_counts_from_its_own_time(clock: MonotonicClock) -> None:
    strikes = Strikes(clock)
    strikes.add(ADDRESS)
    clock.now += 4.0
    strikes.add(ADDRESS)

    clock.now += 4.0

    assert strikes.has(ADDRESS)


def test_the_oldest_of_too_many_addresses_are_forgotten(clock: MonotonicClock) -> None:
    strikes = Strikes(clock)

    for number in range(20_000):
        strikes.add(str(number))

    assert strikes.has("19999")
    assert not strikes.has("0")


def test_some_calls_are_refused_at_once_and_the_others_in_batches(clock: MonotonicClock) -> None:
    turns = RefusalTurns(1000, clock)

    times = [round(clock.now + turns.take(), 3) for _ in range(200)]

    assert times[:50] == [1000.0] * 50
    assert times == sorted(times)
    assert {times.count(moment) for moment in set(times[51:])} <= {49, 50}
    assert times[-1] == 1000.3


def test_a_turn_that_was_given_comes_even_if_calls_go_on_arriving(clock: MonotonicClock) -> None:
    """There are 500 turns per second, however many calls arrive."""
    turns = RefusalTurns(100_000, clock)
    times = []

    for _ in range(10):
        times += [clock.now + turns.take() for _ in range(1000)]
        clock.now += 1.0

    assert sum(1000.0 < moment <= 1010.0 for moment in times) == pytest.approx(10 * 500, abs=50)


def test_no_more_calls_wait_than_may_and_further_ones_are_refused_at_once(clock: MonotonicClock) -> None:
    turns = RefusalTurns(100, clock)

    delays = [turns.take() for _ in range(500)]

    assert turns.waiting == 100
    assert sum(delay > 0 for delay in delays) == pytest.approx(100, abs=1)
    assert set(delays[200:]) == {0.0}


def test_once_the_calls_that_waited_are_refused_the_next_is_refused_at_once(clock: MonotonicClock) -> None:
    turns = RefusalTurns(100, clock)
    for _ in range(500):
        turns.take()

    clock.now += 0.5

    assert turns.waiting == 0
    assert turns.take() == 0.0


def test_the_first_calls_are_refused_at_once_even_if_the_clock_began_just_now(clock: MonotonicClock) -> None:
    clock.now = 0.0
    turns = RefusalTurns(100, clock)

    assert [turns.take() for _ in range(50)] == [0.0] * 50
    assert turns.waiting == 0
