"""The sampling of calls for tracing: as the caller asks, or at random, and never more than the budget."""

import pytest

from identity_service.telemetry.call_ids import TraceContext
from identity_service.telemetry.tracing.sampling import Sampling
from tests.fakes.clocks import MonotonicClock


def context(*, is_sampled: bool) -> TraceContext:
    return TraceContext(
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736", span_id="0" * 15 + "1", is_sampled=is_sampled
    )


def recorded(sampling: Sampling, sent: TraceContext | None, calls: int = 100) -> int:
    """Return how many of `calls` calls are traced."""
    return sum(sampling.is_recorded(sent) for _ in range(calls))


@pytest.mark.parametrize(("ratio", "count"), [(0.0, 0), (1.0, 100)])
def test_the_ratio_decides_about_calls_without_a_trace_alone(ratio: float, count: int) -> None:
    sampling = Sampling(ratio, 1000, MonotonicClock())

    assert recorded(sampling, None) == count
    assert recorded(sampling, context(is_sampled=True)) == 100
    assert recorded(sampling, context(is_sampled=False)) == 0


def test_a_ratio_records_about_this_share() -> None:
    # The chance of another number is less than 10^-12.
    assert 300 < recorded(Sampling(0.5, 10_000, MonotonicClock()), None, 1000) < 700


def test_callers_who_ask_for_every_call_use_up_their_own_budget_alone() -> None:
    sampling = Sampling(1.0, 10, MonotonicClock())

    assert recorded(sampling, context(is_sampled=True)) == 10
    assert recorded(sampling, None) == 10


def test_a_budget_is_filled_as_time_passes_and_never_beyond_a_second() -> None:
    time = MonotonicClock()
    sampling = Sampling(1.0, 10, time)
    recorded(sampling, None)

    time.now += 0.5
    assert recorded(sampling, None) == 5
    time.now += 3600
    assert recorded(sampling, None) == 10
