"""The guard against a wrong wall clock: however the clock is set, no answer ignores a valid denial.

The state machine sets the clock, lets time pass, and keeps a log that is trimmed like the real change log.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from identity_service.domain.clock_guard import HELD, LONGEST_BACK, ClockGuard, ClockVerdict
from tests.fakes.clocks import FakeClock

LEEWAY = timedelta(seconds=10)
RETENTION = timedelta(hours=30)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def guard(clock: FakeClock) -> ClockGuard:
    guard = ClockGuard(clock, leeway=LEEWAY)
    guard.begin()
    assert heartbeat(guard) is ClockVerdict.STEADY
    return guard


def heartbeat(guard: ClockGuard, mark: datetime | None = None) -> ClockVerdict:
    return guard.judge(guard.measure(), mark, RETENTION)


def test_no_clock_is_accepted_before_the_log_was_read(clock: FakeClock) -> None:
    guard = ClockGuard(clock, leeway=LEEWAY)
    assert not guard.is_steady()
    assert heartbeat(guard) is ClockVerdict.READ_AGAIN


@pytest.mark.parametrize("step", [0.9 * SECOND, -0.9 * SECOND])
def test_a_difference_that_slewing_makes_is_no_step(
    clock: FakeClock, guard: ClockGuard, step: timedelta
) -> None:
    clock.step(step)
    assert guard.is_steady()
    assert heartbeat(guard) is ClockVerdict.STEADY


@pytest.mark.parametrize("step", [1.1 * SECOND, -1.1 * SECOND, HOUR, -HOUR])
def test_a_step_is_seen_at_once(clock: FakeClock, guard: ClockGuard, step: timedelta) -> None:
    clock.step(step)
    assert not guard.is_steady()


def test_a_forward_step_is_accepted_by_the_next_heartbeat_and_makes_nothing_forgotten(
    clock: FakeClock, guard: ClockGuard
) -> None:
    before = guard.forgettable()
    clock.step(HOUR)
    assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.is_steady()
    assert guard.forgettable() == before


def test_a_clock_that_comes_back_from_a_forward_step_is_accepted_without_reading_again(
    clock: FakeClock, guard: ClockGuard
) -> None:
    clock.step(HOUR)
    assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.forgettable() < NOW
    clock.step(-HOUR)
    assert heartbeat(guard) is ClockVerdict.STEADY


def test_a_step_below_the_lowest_offset_needs_the_log_from_its_start(
    clock: FakeClock, guard: ClockGuard
) -> None:
    clock.step(-HOUR)
    assert heartbeat(guard) is ClockVerdict.READ_AGAIN
    assert not guard.is_steady()
    guard.begin()
    assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.is_steady()


def test_many_small_steps_back_need_the_log_from_its_start_as_one_does(
    clock: FakeClock, guard: ClockGuard
) -> None:
    clock.advance(100 * SECOND)
    assert heartbeat(guard) is ClockVerdict.STEADY
    guard.forgettable()
    verdicts = []
    for _ in range(20):
        clock.step(-0.9 * SECOND)
        verdicts.append(heartbeat(guard))
        if verdicts[-1] is ClockVerdict.READ_AGAIN:
            break
    assert verdicts[-1] is ClockVerdict.READ_AGAIN


def test_a_clock_that_is_set_during_a_heartbeat_is_judged_by_the_next(
    clock: FakeClock, guard: ClockGuard
) -> None:
    before = guard.measure()
    clock.step(HOUR)
    assert guard.judge(before, None, RETENTION) is ClockVerdict.MOVING
    assert not guard.is_steady()
    assert heartbeat(guard) is ClockVerdict.STEADY


def test_a_clock_far_behind_the_time_that_the_store_remembers_is_refused_until_it_is_not(
    clock: FakeClock, guard: ClockGuard
) -> None:
    mark = clock.now()
    clock.step(-(LONGEST_BACK + SECOND))
    for _ in range(2):
        assert heartbeat(guard, mark) is ClockVerdict.REFUSED
    assert not guard.is_steady()
    clock.step(LONGEST_BACK)
    assert heartbeat(guard, mark) is ClockVerdict.STEADY


def test_an_operator_accepts_a_clock_by_lowering_the_time_that_the_store_remembers(
    clock: FakeClock, guard: ClockGuard
) -> None:
    mark = clock.now()
    clock.step(-30 * HOUR)
    assert heartbeat(guard, mark) is ClockVerdict.REFUSED
    assert heartbeat(guard, clock.now()) is ClockVerdict.READ_AGAIN
    guard.begin()
    assert heartbeat(guard, clock.now()) is ClockVerdict.STEADY


def test_a_forward_offset_that_has_held_for_the_whole_retention_becomes_the_lowest(
    clock: FakeClock, guard: ClockGuard
) -> None:
    clock.step(HOUR)
    for _ in range(4):
        before = guard.forgettable()
        assert before < clock.now() - timedelta(hours=1)
        clock.advance(RETENTION * 0.7)
        assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.forgettable() > clock.now() - timedelta(minutes=1)


def test_only_a_time_that_was_steady_long_enough_is_written_to_the_store(
    clock: FakeClock, guard: ClockGuard
) -> None:
    assert guard.held_time() is None
    clock.advance(HELD)
    assert guard.held_time() == clock.now()
    right = clock.error
    clock.step(HOUR)
    assert heartbeat(guard) is ClockVerdict.STEADY
    clock.advance(HELD - SECOND)
    assert guard.held_time() is None
    clock.error = right
    assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.held_time() is None
    clock.advance(HELD)
    assert guard.held_time() == clock.now()


def test_a_change_of_one_step_leaves_the_time_steady(clock: FakeClock, guard: ClockGuard) -> None:
    clock.advance(HELD)
    clock.step(SECOND)
    assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.held_time() == clock.now()


def test_the_latest_time_that_was_accepted_is_kept(clock: FakeClock, guard: ClockGuard) -> None:
    clock.step(HOUR)
    assert heartbeat(guard) is ClockVerdict.STEADY
    latest = clock.now()
    clock.step(-HOUR)
    assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.highest == latest


def test_a_thread_that_is_interrupted_between_two_readings_sees_no_step(
    clock: FakeClock, guard: ClockGuard
) -> None:
    readings = iter([0 * SECOND, 5 * SECOND])
    real = clock.boot

    def interrupted() -> float:
        clock.advance(next(readings, 0 * SECOND))
        return real()

    clock.boot = interrupted  # type: ignore[method-assign]
    assert guard.is_steady()


def test_the_clock_is_read_again_only_while_reading_it_was_slow(
    clock: FakeClock, guard: ClockGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[float] = []
    real = clock.unix

    def unix() -> float:
        read.append(real())
        return read[-1]

    monkeypatch.setattr(clock, "unix", unix)

    guard.measure()

    assert len(read) == 1


@dataclass(frozen=True)
class Denied:
    """The denial of one token."""

    number: int
    expire: float
    """The Unix time at which the token expires, by the wall clock under which it was issued."""
    written: float
    """The boot time in seconds at which the denial was written."""

    @property
    def end(self) -> float:
        return self.expire + LEEWAY.total_seconds()


class SteppedClocks(RuleBasedStateMachine):
    """A process with a clock guard and a denylist, and a log that keeps entries for the retention time."""

    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock(NOW)
        self.log: list[Denied] = []
        self.all: list[Denied] = []
        self.known: set[Denied] = set()
        self.mark: datetime | None = None
        self.restart()

    @rule(step=st.floats(-30, 30).map(lambda hours: hours * HOUR))
    def set_the_clock(self, step: timedelta) -> None:
        self.clock.step(step)

    @rule(step=st.floats(-30, 30).map(lambda hours: hours * HOUR))
    def set_the_clock_for_a_moment(self, step: timedelta) -> None:
        right = self.clock.error
        self.clock.step(step)
        self.heartbeat()
        self.nothing_denied_is_let_through()
        self.clock.error = right
        self.heartbeat()

    @rule()
    def set_it_right(self) -> None:
        self.clock.error = timedelta(0)

    @rule(span=st.sampled_from([0.1 * SECOND, 60 * SECOND, 601 * SECOND, HOUR, 7 * HOUR, 31 * HOUR]))
    def wait(self, span: timedelta) -> None:
        self.clock.advance(span)

    @rule()
    def time_passes_with_heartbeats(self) -> None:
        """Let time pass until everything in the log is old enough to be trimmed."""
        for span in (601 * SECOND, RETENTION, SECOND):
            self.clock.advance(span)
            self.heartbeat()

    @rule()
    def heartbeat(self) -> None:
        held = self.guard.held_time()
        if held is not None and (self.mark is None or held > self.mark):
            self.mark = held
        verdict = heartbeat(self.guard, self.mark)
        self.seen[verdict.value] += 1
        if verdict is ClockVerdict.READ_AGAIN:
            self.read()
            verdict = heartbeat(self.guard, self.mark)
        if verdict is ClockVerdict.STEADY:
            before = self.guard.forgettable().timestamp()
            self.known = {denied for denied in self.known if denied.end >= before}
            self.trim()

    @rule(lifetime=st.sampled_from([300, 900, 24 * 3600]))
    def issue_and_revoke(self, lifetime: float) -> None:
        if not self.guard.is_steady():
            return
        denied = Denied(len(self.all), self.clock.unix() + lifetime, self.clock.monotonic())
        self.all.append(denied)
        self.log.append(denied)
        self.known.add(denied)
        self.seen["revoked"] += 1

    @rule()
    def restart(self) -> None:
        self.guard = ClockGuard(self.clock, leeway=LEEWAY)
        self.known = set()
        self.read()

    @precondition(lambda self: self.mark is not None)
    @rule()
    def operator_accepts(self) -> None:
        """Accept the present clock, as an operator does after a clock was wrong.

        The documentation tells the operator to revoke everything at this step, since denials that were
        written while the clock was ahead may have been trimmed.
        """
        self.clock.error = timedelta(0)
        self.mark = self.clock.now()
        kept = set(self.log)
        self.all = [denied for denied in self.all if denied in kept]

    @invariant()
    def nothing_denied_is_let_through(self) -> None:
        if self.guard.is_steady():
            now = self.clock.unix()
            alive = {denied for denied in self.all if now < denied.end}
            self.seen["alive"] += len(alive)
            assert alive <= self.known

    def read(self) -> None:
        self.guard.begin()
        self.known |= set(self.log)

    def trim(self) -> None:
        """Remove the entries that the log maintenance removes.

        Those are older than the retention time and belong to tokens that no correction of the clock makes
        valid again.
        """
        held = self.guard.held_time()
        if held is None or self.mark is None or held > self.mark:
            return
        old = self.clock.monotonic() - RETENTION.total_seconds()
        ended = (held - LONGEST_BACK).timestamp()
        before = len(self.log)
        self.log = [denied for denied in self.log if denied.written > old or denied.end >= ended]
        self.seen["trimmed"] += before - len(self.log)


def test_no_call_misses_a_denial_however_the_clock_is_set() -> None:
    SteppedClocks.seen.clear()
    case = SteppedClocks.TestCase
    case.settings = settings(
        max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    case().runTest()
    for name in (
        "revoked",
        "alive",
        "trimmed",
        *(v.value for v in ClockVerdict if v is not ClockVerdict.MOVING),
    ):
        assert SteppedClocks.seen[name] > 0, f"{name} never happened"
