"""The pause of a client before it repeats a call."""

from datetime import timedelta

import grpc
import pytest

from identity_client import ResourceExhaustedError, UnavailableError
from identity_client.backoff import Backoff


def longest(_: float, bound: float) -> float:
    return bound


def shortest(bound: float, _: float) -> float:
    return bound


def busy(retry_after: float) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        "too many", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=timedelta(seconds=retry_after)
    )


def test_the_bound_of_the_pauses_doubles_from_a_tenth_of_a_second_to_two_seconds() -> None:
    backoff = Backoff(uniform=longest)

    pauses = [backoff.next_pause() for _ in range(7)]

    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])


def test_each_pause_is_a_random_time_between_0_and_its_bound() -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high / 2

    backoff = Backoff(first=timedelta(seconds=1), longest=timedelta(seconds=3), uniform=uniform)

    assert [backoff.next_pause() for _ in range(3)] == [0.5, 1.0, 1.5]
    assert asked == [(0.0, 1.0), (0.0, 2.0), (0.0, 3.0)]


def test_after_a_success_pauses_are_short_again() -> None:
    backoff = Backoff(uniform=longest)
    for _ in range(9):
        backoff.next_pause()

    backoff.reset()

    assert backoff.next_pause() == pytest.approx(0.1)


def test_the_pause_that_the_service_asks_for_is_kept_with_jitter_on_top() -> None:
    """Without jitter, all clients that were told the same pause would return at the same moment."""
    assert Backoff(uniform=shortest).next_pause(busy(1)) == pytest.approx(1.0)
    assert Backoff(uniform=longest).next_pause(busy(1)) == pytest.approx(1.1)


@pytest.mark.parametrize(("asked", "waited"), [(3600, 2.0), (-5, 0.0), (0, 0.0)])
def test_no_service_makes_a_client_wait_longer_than_the_longest_pause(asked: float, waited: float) -> None:
    assert Backoff(uniform=shortest).next_pause(busy(asked)) == waited


def test_a_process_that_shuts_down_speaks_for_itself_alone() -> None:
    """It asks for one second, but another process already serves, so the client pauses only briefly."""
    stopping = UnavailableError(
        "stopping",
        code=grpc.StatusCode.UNAVAILABLE,
        reason="SHUTTING_DOWN",
        retry_after=timedelta(seconds=1),
    )

    assert Backoff(uniform=longest).next_pause(stopping) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "failure", [None, ValueError("a bug"), UnavailableError("", code=grpc.StatusCode.OK)]
)
def test_an_error_without_a_pause_is_retried_soon(failure: Exception | None) -> None:
    assert Backoff(uniform=longest).next_pause(failure) == pytest.approx(0.1)


def test_pauses_of_many_clients_are_spread() -> None:
    pauses = [Backoff(first=timedelta(seconds=1)).next_pause() for _ in range(1000)]

    assert all(0 <= pause <= 1 for pause in pauses)
    assert len({int(pause * 10) for pause in pauses}) >= 9, "of ten tenths"
