"""The wall clock of this process, compared with the store's clock and with its own past.

Decides whether calls may rely on it, and records each change of that as one event. Reads no log: `replica.py`
does what a verdict asks for. `domain/clock_guard.py` has the rule.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isnan
from typing import Final

from identity_service.domain.clock_guard import STEP, ClockGuard, ClockVerdict
from identity_service.domain.errors import ClockSkewedError
from identity_service.domain.log import Head
from identity_service.domain.ports import Clock, EventLog

_EVENTS: Final = {
    ClockVerdict.MOVING: "clock_is_being_set",
    ClockVerdict.READ_AGAIN: "clock_set_back",
    ClockVerdict.REFUSED: "clock_refused",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSample:
    """The readings of the clocks just before a heartbeat was sent."""

    steady: float
    """Seconds on the monotonic clock."""
    wall: datetime
    offset: float
    """The wall clock minus the boot clock, in seconds."""


class WallClock:
    """A wall clock that is judged at each heartbeat, and that refuses calls while it is not accepted.

    One thread at a time calls `judge`, `begin` and `forgettable`; any thread calls the others.
    """

    def __init__(self, clock: Clock, event_log: EventLog, *, leeway: timedelta) -> None:
        self._clock = clock
        self._event_log = event_log
        self._leeway = leeway
        self._guard = ClockGuard(clock, leeway=leeway)
        self._skew: timedelta | None = None
        self._verdict = ClockVerdict.STEADY

    def sample(self) -> ClockSample:
        """Read the clocks; call this right before a heartbeat is sent."""
        return ClockSample(
            steady=self._clock.monotonic(), wall=self._clock.now(), offset=self._guard.measure()
        )

    def require(self) -> None:
        """Raise ClockSkewedError unless the wall clock is still as the last heartbeat accepted it."""
        boot = self._clock.boot()
        # A thread that is interrupted between the two readings sees a step although there is none. So a
        # difference is measured once more, with the shortest of several readings.
        if self._skew is None and (
            -STEP <= self._clock.unix() - boot - self._guard.accepted <= STEP or self._guard.is_steady()
        ):
            return
        raise ClockSkewedError(self._explain_refusal())

    def judge(self, sample: ClockSample, head: Head) -> ClockVerdict | None:
        """Judge the clock by the head that a heartbeat returned.

        None means that the clocks of the process and the store differ by more than the leeway. READ_AGAIN
        asks the caller to read the log from its start, and to judge again with a new sample.
        """
        self._skew = self._measure_skew(sample.wall, head.time)
        if self._skew is not None:
            return None
        before = self._guard.accepted
        verdict = self._guard.judge(sample.offset, head.marks.time, head.retention)
        if verdict is ClockVerdict.STEADY:
            after = self._guard.accepted
            step = 0.0 if isnan(before) else after - before
            if self._verdict is not verdict or abs(step) > STEP:
                self._event_log.record("clock_accepted", step_seconds=round(step))
        elif verdict is not self._verdict:
            self._event_log.record(_EVENTS[verdict])
        self._verdict = verdict
        return verdict

    def begin(self) -> None:
        """Note that the log is about to be read from its start."""
        self._guard.begin()

    def forgettable(self) -> datetime:
        """Return the time before which denials that ended may be forgotten; call this only after STEADY."""
        return self._guard.forgettable()

    def held_time(self) -> datetime | None:
        """Return the wall-clock time that the store may remember.

        None = the clock has not been steady for 10 minutes, or the store's clock differs by more than the
        leeway: then one of the two is wrong.
        """
        return self._guard.held_time() if self._skew is None else None

    def latest(self) -> datetime:
        """Return the latest time that this process ever accepted, or the present time if that is later."""
        highest, now = self._guard.highest, self._clock.now()
        return now if highest is None else max(highest, now)

    def _measure_skew(self, before: datetime, store: datetime) -> timedelta | None:
        """Return by how much the store's clock differs; None = at most by the leeway.

        The store's time is compared with the wall clock before the heartbeat was sent and after it returned.
        """
        after = self._clock.now()
        skew = max(before - store, store - after, timedelta(0))
        return skew if skew > self._leeway else None

    def _explain_refusal(self) -> str:
        """Return why the clock is refused, and what to do."""
        skew = self._skew
        if skew is not None:
            return (
                f"the clocks of this process and of the store differ by {skew.total_seconds():.0f} s; "
                "run NTP on both machines"
            )
        if self._verdict is ClockVerdict.REFUSED:
            return (
                "the clock of this machine is more than 3 hours behind the time that the store remembers; "
                "set it right, or run `identity clock accept` if it is right"
            )
        return "the clock of this machine was set and is being checked; try again"
