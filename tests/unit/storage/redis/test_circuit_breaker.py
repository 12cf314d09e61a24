"""When calls pass, fail at once, or are the one that tries again; by a clock that the test moves."""

import threading

import pytest

from identity_service.domain.errors import StoreUnavailableError, UnsafeStoreError
from identity_service.storage.redis.client.circuit_breaker import CircuitBreaker


class Time:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def boot(self) -> float:
        return self.monotonic()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def circuit(time: Time) -> CircuitBreaker:
    return CircuitBreaker(time.monotonic, lambda _, most: most)


def lose(circuit: CircuitBreaker, *, times: int = 1) -> None:
    """The server cannot be reached so many times in a row, each time as soon as it is tried."""
    for _ in range(times):
        circuit.failed(trial=circuit.enter(), unreachable=True)


def test_calls_pass_while_the_server_answers(circuit: CircuitBreaker) -> None:
    assert circuit.enter() is False
    circuit.succeeded()
    assert circuit.enter() is False


def test_one_call_that_finds_no_server_makes_the_others_fail_at_once(
    circuit: CircuitBreaker, time: Time
) -> None:
    lose(circuit)
    time.now += 0.05
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


def test_one_caller_at_a_time_tries_again(circuit: CircuitBreaker, time: Time) -> None:
    lose(circuit)
    time.now += 0.05

    assert circuit.enter() is True
    with pytest.raises(StoreUnavailableError):
        circuit.enter()


def test_the_trial_that_is_answered_lets_everybody_pass(circuit: CircuitBreaker, time: Time) -> None:
    lose(circuit)
    time.now += 0.05
    circuit.enter()
    circuit.succeeded()

    assert circuit.enter() is False
    assert not circuit.is_open


def test_the_pauses_between_trials_grow_to_a_second_and_no_further(
    circuit: CircuitBreaker, time: Time
) -> None:
    lose(circuit)
    time.now += 0.05
    for pause in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        circuit.failed(trial=circuit.enter(), unreachable=True)
        time.now += pause - 0.06
        with pytest.raises(StoreUnavailableError):
            circuit.enter()
        time.now += 0.07


def test_a_trial_that_asked_nobody_leaves_the_next_caller_to_try(circuit: CircuitBreaker, time: Time) -> None:
    lose(circuit)
    time.now += 0.05
    circuit.abandoned(trial=circuit.enter())

    assert circuit.enter() is True


def test_a_late_failure_of_an_earlier_call_does_not_prolong_the_pause(
    circuit: CircuitBreaker, time: Time
) -> None:
    lose(circuit)
    time.now += 0.04
    circuit.failed(trial=False, unreachable=False)
    time.now += 0.01

    assert circuit.enter() is True


def test_who_comes_shortly_before_the_next_trial_waits_for_it_rather_than_to_fail() -> None:
    circuit = CircuitBreaker(jitter=lambda least, most: most)
    lose(circuit)
    passed: list[bool] = []
    caller = threading.Thread(target=lambda: passed.append(circuit.enter()))

    caller.start()
    caller.join(5)

    assert passed == [True]


def test_a_server_that_is_refused_opens_it_at_once_and_says_why_until_it_is_admitted(
    circuit: CircuitBreaker, time: Time
) -> None:
    circuit.failed(trial=circuit.enter(), unreachable=False, refusal=UnsafeStoreError("set this"))

    with pytest.raises(UnsafeStoreError, match="set this"):
        circuit.require_closed()
    for _ in range(10):
        time.now += 0.5  # never longer, however often it was refused
        circuit.failed(trial=circuit.enter(), unreachable=False, refusal=UnsafeStoreError("set that"))
    with pytest.raises(UnsafeStoreError, match="set that"):
        circuit.require_closed()

    time.now += 0.5
    assert circuit.enter() is True
    circuit.succeeded()
    circuit.require_closed()


def test_a_server_that_was_refused_and_is_away_by_now_is_away(circuit: CircuitBreaker, time: Time) -> None:
    circuit.failed(trial=circuit.enter(), unreachable=False, refusal=UnsafeStoreError("set this"))
    time.now += 0.5
    circuit.failed(trial=circuit.enter(), unreachable=True)

    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        circuit.require_closed()
