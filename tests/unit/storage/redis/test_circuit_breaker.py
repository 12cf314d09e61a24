"""The circuit breaker: calls pass, fail at once, or are the trial call. The test moves the clock."""

import threading
from datetime import timedelta

import pytest

from identity_service.domain.errors import StoreUnavailableError, UnsafeStoreError
from identity_service.storage.redis.client.circuit_breaker import CircuitBreaker
from tests.fakes.clocks import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def circuit(clock: FakeClock) -> CircuitBreaker:
    return CircuitBreaker(clock.monotonic, lambda _, most: most)


def lose(circuit: CircuitBreaker, *, times: int = 1) -> None:
    """Fail this number of calls in a row, each as soon as the circuit lets it try."""
    for _ in range(times):
        circuit.failed(trial=circuit.enter(), unreachable=True)


def test_calls_pass_while_the_server_answers(circuit: CircuitBreaker) -> None:
    assert circuit.enter() is False
    circuit.succeeded()
    assert circuit.enter() is False


def test_one_call_that_finds_no_server_makes_the_others_fail_at_once(
    circuit: CircuitBreaker, clock: FakeClock
) -> None:
    lose(circuit)
    clock.advance(timedelta(seconds=0.05))
    lose(circuit)

    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        circuit.enter()
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        circuit.require_closed()


def test_slow_answers_are_tolerated_until_there_are_three_in_a_row(circuit: CircuitBreaker) -> None:
    for _ in range(2):
        circuit.failed(trial=False, unreachable=False)
    circuit.succeeded()
    for _ in range(2):
        circuit.failed(trial=False, unreachable=False)
    assert not circuit.is_open

    circuit.failed(trial=False, unreachable=False)

    assert circuit.is_open


def test_one_caller_at_a_time_tries_again(circuit: CircuitBreaker, clock: FakeClock) -> None:
    lose(circuit)
    clock.advance(timedelta(seconds=0.05))

    assert circuit.enter() is True
    with pytest.raises(StoreUnavailableError):
        circuit.enter()


def test_an_answered_trial_lets_every_call_pass(circuit: CircuitBreaker, clock: FakeClock) -> None:
    lose(circuit)
    clock.advance(timedelta(seconds=0.05))
    circuit.enter()
    circuit.succeeded()

    assert circuit.enter() is False
    assert not circuit.is_open


def test_the_pauses_between_trials_grow_to_a_second_and_no_further(
    circuit: CircuitBreaker, clock: FakeClock
) -> None:
    lose(circuit)
    clock.advance(timedelta(seconds=0.05))
    for pause in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        circuit.failed(trial=circuit.enter(), unreachable=True)
        clock.advance(timedelta(seconds=pause - 0.06))
        with pytest.raises(StoreUnavailableError):
            circuit.enter()
        clock.advance(timedelta(seconds=0.07))


def test_an_abandoned_trial_lets_the_next_caller_try(circuit: CircuitBreaker, clock: FakeClock) -> None:
    lose(circuit)
    clock.advance(timedelta(seconds=0.05))
    circuit.abandoned(trial=circuit.enter())

    assert circuit.enter() is True


def test_a_late_failure_of_an_earlier_call_does_not_prolong_the_pause(
    circuit: CircuitBreaker, clock: FakeClock
) -> None:
    lose(circuit)
    clock.advance(timedelta(seconds=0.04))
    circuit.failed(trial=False, unreachable=False)
    clock.advance(timedelta(seconds=0.01))

    assert circuit.enter() is True


def test_a_call_shortly_before_the_next_trial_waits_for_it_instead_of_failing() -> None:
    circuit = CircuitBreaker(jitter=lambda least, most: most)
    lose(circuit)
    passed: list[bool] = []
    caller = threading.Thread(target=lambda: passed.append(circuit.enter()))

    caller.start()
    caller.join(5)

    assert passed == [True]


def test_a_refused_server_opens_the_circuit_at_once_with_the_reason_until_it_is_admitted(
    circuit: CircuitBreaker, clock: FakeClock
) -> None:
    circuit.failed(trial=circuit.enter(), unreachable=False, refusal=UnsafeStoreError("set this"))

    with pytest.raises(UnsafeStoreError, match="set this"):
        circuit.require_closed()
    for _ in range(10):
        clock.advance(timedelta(seconds=0.5))  # never longer, however often it was refused
        circuit.failed(trial=circuit.enter(), unreachable=False, refusal=UnsafeStoreError("set that"))
    with pytest.raises(UnsafeStoreError, match="set that"):
        circuit.require_closed()

    clock.advance(timedelta(seconds=0.5))
    assert circuit.enter() is True
    circuit.succeeded()
    circuit.require_closed()


def test_a_refused_server_that_became_unreachable_is_reported_as_unreachable(
    circuit: CircuitBreaker, clock: FakeClock
) -> None:
    circuit.failed(trial=circuit.enter(), unreachable=False, refusal=UnsafeStoreError("set this"))
    clock.advance(timedelta(seconds=0.5))
    circuit.failed(trial=circuit.enter(), unreachable=True)

    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        circuit.require_closed()
