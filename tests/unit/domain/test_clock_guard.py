"""The guard of the wall clock: whatever is done to the clock, a call that is let through misses no denial.

The state machine sets the clock anyhow, lets time pass, and keeps a log that is trimmed as the real one is.
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

LEEWAY = timedelta(seconds=10)
RETENTION = timedelta(hours=30)
HOUR = 3600.0
START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class Clock:
    """A boot clock, and a wall clock that is `offset` seconds ahead of it."""

    def __init__(self) -> None:
        self.steady, self.offset = 1000.0, START

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.unix(), UTC)

    def unix(self) -> float:
        return self.steady + self.offset

    def monotonic(self) -> float:
        return self.steady

    def boot(self) -> float:
        return self.steady


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> ClockGuard:
    guard = ClockGuard(clock, leeway=LEEWAY)
    guard.begin()
    assert heartbeat(guard) is ClockVerdict.STEADY
    return guard


def heartbeat(guard: ClockGuard, mark: datetime | None = None) -> ClockVerdict:
    return guard.judge(guard.measure(), mark, RETENTION)


def test_no_clock_is_accepted_before_the_log_was_read(clock: Clock) -> None:
    guard = ClockGuard(clock, leeway=LEEWAY)
    assert not guard.is_steady()
    assert heartbeat(guard) is ClockVerdict.READ_AGAIN


@pytest.mark.parametrize("step", [0.9, -0.9])
def test_a_difference_that_slewing_makes_is_no_step(clock: Clock, guard: ClockGuard, step: float) -> None:
    clock.offset += step
    assert guard.is_steady()
    assert heartbeat(guard) is ClockVerdict.STEADY


@pytest.mark.parametrize("step", [1.1, -1.1, HOUR, -HOUR])
def test_a_step_is_seen_at_once(clock: Clock, guard: ClockGuard, step: float) -> None:
    clock.offset += step
    assert not guard.is_steady()


def test_a_forward_step_is_accepted_by_the_next_heartbeat_and_makes_nothing_forgotten(
    clock: Clock, guard: ClockGuard
) -> None:
    before = guard.forgettable()
    clock.offset += HOUR
    assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.is_steady()
    assert guard.forgettable() == before


def test_a_clock_that_comes_back_from_a_forward_step_is_accepted_without_reading_again(
    clock: Clock, guard: ClockGuard
) -> None:
    clock.offset += HOUR
    assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.forgettable() < datetime.fromtimestamp(START + 1000, UTC)
    clock.offset -= HOUR
    assert heartbeat(guard) is ClockVerdict.STEADY


def test_a_step_below_the_lowest_offset_needs_the_log_from_its_start(clock: Clock, guard: ClockGuard) -> None:
    clock.offset -= HOUR
    assert heartbeat(guard) is ClockVerdict.READ_AGAIN
    assert not guard.is_steady()
    guard.begin()
    assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.is_steady()


def test_many_small_steps_back_need_the_log_from_its_start_as_one_does(
    clock: Clock, guard: ClockGuard
) -> None:
    clock.steady += 100
    assert heartbeat(guard) is ClockVerdict.STEADY
    guard.forgettable()
    verdicts = []
    for _ in range(20):
        clock.offset -= 0.9
        verdicts.append(heartbeat(guard))
        if verdicts[-1] is ClockVerdict.READ_AGAIN:
            break
    assert verdicts[-1] is ClockVerdict.READ_AGAIN


def test_a_clock_that_is_set_during_a_heartbeat_is_judged_by_the_next(
    clock: Clock, guard: ClockGuard
) -> None:
    before = guard.measure()
    clock.offset += HOUR
    assert guard.judge(before, None, RETENTION) is ClockVerdict.MOVING
    assert not guard.is_steady()
    assert heartbeat(guard) is ClockVerdict.STEADY


def test_a_clock_far_behind_the_time_that_the_store_remembers_is_refused_until_it_is_not(
    clock: Clock, guard: ClockGuard
) -> None:
    mark = clock.now()
    clock.offset -= LONGEST_BACK.total_seconds() + 1
    for _ in range(2):
        assert heartbeat(guard, mark) is ClockVerdict.REFUSED
    assert not guard.is_steady()
    clock.offset += LONGEST_BACK.total_seconds()
    assert heartbeat(guard, mark) is ClockVerdict.STEADY


def test_an_operator_accepts_a_clock_by_setting_back_what_the_store_remembers(
    clock: Clock, guard: ClockGuard
) -> None:
    mark = clock.now()
    clock.offset -= 30 * HOUR
    assert heartbeat(guard, mark) is ClockVerdict.REFUSED
    assert heartbeat(guard, clock.now()) is ClockVerdict.READ_AGAIN
    guard.begin()
    assert heartbeat(guard, clock.now()) is ClockVerdict.STEADY


def test_a_forward_offset_that_has_held_for_the_whole_retention_becomes_the_lowest(
    clock: Clock, guard: ClockGuard
) -> None:
    clock.offset += HOUR
    for _ in range(4):
        before = guard.forgettable()
        assert before < clock.now() - timedelta(hours=1)
        clock.steady += RETENTION.total_seconds() * 0.7
        assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.forgettable() > clock.now() - timedelta(minutes=1)


def test_only_a_time_that_has_held_is_told_to_the_store(clock: Clock, guard: ClockGuard) -> None:
    assert guard.held_time() is None
    clock.steady += HELD.total_seconds()
    assert guard.held_time() == clock.now()
    right = clock.offset
    clock.offset += HOUR
    assert heartbeat(guard) is ClockVerdict.STEADY
    clock.steady += HELD.total_seconds() - 1
    assert guard.held_time() is None
    clock.offset = right
    assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.held_time() is None
    clock.steady += HELD.total_seconds()
    assert guard.held_time() == clock.now()


def test_the_latest_time_that_was_accepted_is_kept(clock: Clock, guard: ClockGuard) -> None:
    clock.offset += HOUR
    assert heartbeat(guard) is ClockVerdict.STEADY
    latest = clock.now()
    clock.offset -= HOUR
    assert heartbeat(guard) is ClockVerdict.STEADY
    assert guard.highest == latest


def test_a_thread_that_is_interrupted_between_two_readings_sees_no_step(
    clock: Clock, guard: ClockGuard
) -> None:
    readings = iter([0.0, 5.0])  # the first pair of readings takes five seconds, all others no time
    real = clock.boot

    def interrupted() -> float:
        clock.steady += next(readings, 0.0)
        return real()

    clock.boot = interrupted  # type: ignore[method-assign]
    assert guard.is_steady()


@dataclass(frozen=True)
class Denied:
    """A token that was revoked."""

    number: int
    expire: float
    """By the wall clock that it was issued under."""
    written: float
    """By the boot clock."""

    @property
    def end(self) -> float:
        return self.expire + LEEWAY.total_seconds()


class SteppedClocks(RuleBasedStateMachine):
    """A process with a guard, its denylist, and a log that keeps entries for the retention."""

    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.log: list[Denied] = []
        self.all: list[Denied] = []
        self.known: set[Denied] = set()
        self.mark: datetime | None = None
        self.restart()

    @rule(step=st.floats(-30, 30).map(lambda hours: hours * HOUR))
    def set_the_clock(self, step: float) -> None:
        self.clock.offset += step

    @rule(step=st.floats(-30, 30).map(lambda hours: hours * HOUR))
    def set_the_clock_for_a_moment(self, step: float) -> None:
        right = self.clock.offset
        self.clock.offset += step
        self.heartbeat()
        self.nothing_denied_is_let_through()
        self.clock.offset = right
        self.heartbeat()

    @rule()
    def set_it_right(self) -> None:
        self.clock.offset = START

    @rule(seconds=st.sampled_from([0.1, 60, 601, HOUR, 7 * HOUR, 31 * HOUR]))
    def wait(self, seconds: float) -> None:
        self.clock.steady += seconds

    @rule()
    def time_passes_with_heartbeats(self) -> None:
        """Until all that is in the log is old enough to be trimmed."""
        for seconds in (601, RETENTION.total_seconds(), 1):
            self.clock.steady += seconds
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

    @rule(lifetime=st.sampled_from([300, 900, 24 * HOUR]))
    def issue_and_revoke(self, lifetime: float) -> None:
        if not self.guard.is_steady():
            return
        denied = Denied(len(self.all), self.clock.unix() + lifetime, self.clock.steady)
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
        """The docs say to revoke everything then: denials of a clock that was ahead may be trimmed."""
        self.clock.offset = START
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
        """As the upkeep does: by the time that has passed, and never a denial that may count again."""
        held = self.guard.held_time()
        if held is None or self.mark is None or held > self.mark:
            return
        old = self.clock.steady - RETENTION.total_seconds()
        ended = (held - LONGEST_BACK).timestamp()
        before = len(self.log)
        self.log = [denied for denied in self.log if denied.written > old or denied.end >= ended]
        self.seen["trimmed"] += before - len(self.log)


def test_whatever_is_done_to_the_clock_no_call_that_is_let_through_misses_a_denial() -> None:
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
