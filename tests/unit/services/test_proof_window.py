"""The memory of used proofs forgets none that could still be accepted, and refuses new ones when full."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.errors import ServerBusyError
from identity_service.services.dpop import ProofWindow
from tests.fakes.clocks import FakeClock
from tests.patience import PATIENCE

SPAN = timedelta(seconds=80)
TICK = timedelta(milliseconds=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_member_is_new_only_once(clock: FakeClock) -> None:
    window = ProofWindow(clock.boot, SPAN)

    assert [window.add(member) for member in (b"a", b"b", b"a", b"b")] == [True, True, False, False]


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.integers(0, 9)), max_size=20))
def test_a_member_is_remembered_for_one_to_two_spans(steps: list[tuple[bytes, int]]) -> None:
    clock = FakeClock()
    window, added = ProofWindow(clock.boot, SPAN), dict[bytes, float]()
    for member, quarters in steps:
        clock.advance(SPAN / 4 * quarters)
        age = clock.boot() - added.get(member, -1e9)
        is_new = window.add(member)
        if is_new:
            added[member] = clock.boot()
        assert is_new or age < 2 * SPAN.total_seconds()
        assert not is_new or age >= SPAN.total_seconds()


def test_a_wall_clock_that_is_set_makes_it_forget_nothing(clock: FakeClock) -> None:
    window = ProofWindow(clock.boot, SPAN)
    window.add(b"a")

    for step in (timedelta(days=1), -timedelta(days=2)):
        clock.step(step)
        assert not window.add(b"a")


def test_a_full_window_refuses_until_a_half_is_dropped_and_says_when(clock: FakeClock) -> None:
    window = ProofWindow(clock.boot, SPAN, limit=3)
    for member in (b"a", b"b"):
        window.add(member)
    clock.advance(SPAN)
    window.add(b"c")
    clock.advance(SPAN / 2)

    with pytest.raises(ServerBusyError, match=r"\(3\)") as refusal:
        window.add(b"d")
    assert refusal.value.retry_after == 40.0
    assert not window.add(b"a"), "it forgot one to make room"
    clock.advance(SPAN / 2 - TICK)
    with pytest.raises(ServerBusyError):
        window.add(b"d")
    clock.advance(TICK)
    assert window.add(b"d")


def test_of_many_threads_one_adds_a_member(clock: FakeClock) -> None:
    window, together = ProofWindow(clock.boot, SPAN), Barrier(8)

    def add(_: int) -> int:
        together.wait(PATIENCE)
        return sum(window.add(bytes([number])) for number in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 50
