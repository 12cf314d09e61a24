"""The decision whether this process may answer from memory, by the staleness of its replica and by its clock.

The wall clock is compared with the store's clock and with its own past, and each change of the verdict is
recorded as one event. The module reads no log: `replica.py` acts on the verdicts. `domain/clock_guard.py` has
the rule.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isnan
from typing import Final

from identity_service.domain.clock_guard import STEP, ClockGuard, ClockVerdict
from identity_service.domain.errors import (
    ClockSkewedError,
    NoSigningKeyError,
    NotReadyError,
    ReplicaStaleError,
    StoreDamagedError,
    StoreFencedError,
    UnavailableError,
    UnsafeStoreError,
)
from identity_service.domain.log import Head
from identity_service.domain.ports import Clock, EventLog

FRESH: Final = "fresh"
"""The status of a process that may answer calls."""
ACTIONABLE: Final = (NoSigningKeyError, UnsafeStoreError, StoreDamagedError)
"""Errors that an operator has to fix: callers get their message instead of that of ReplicaStaleError."""
_EVENTS: Final = {
    ClockVerdict.MOVING: "clock_is_being_set",
    ClockVerdict.READ_AGAIN: "clock_set_back",
    ClockVerdict.REFUSED: "clock_refused",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSample:
    """The readings of the clocks just before a heartbeat was sent."""

    steady: float
    """The seconds on the monotonic clock."""
    wall: datetime
    offset: float
    """The wall clock minus the boot clock, in seconds."""


class Freshness:
    """The conditions under which this process answers, which refuse calls while one of them does not hold.

    One thread at a time calls `judge`, `begin` and `forgettable`; any thread calls the others.
    """

    def __init__(
        self, clock: Clock, event_log: EventLog, *, max_staleness: timedelta, leeway: timedelta
    ) -> None:
        self._clock = clock
        self._event_log = event_log
        self._leeway = leeway
        self._guard = ClockGuard(clock, leeway=leeway)
        self._skew: timedelta | None = None
        self._verdict = ClockVerdict.STEADY
        self._max_staleness = max_staleness.total_seconds()
        self.ready = False
        """True once the log was read to its end for the first time."""
        self.confirmed: float | None = None
        """The time at which the last heartbeat was sent that the store confirmed and whose head is folded
        (monotonic clock); None = none since the log was last read from its start."""
        self.last_error: UnavailableError | None = None
        """The error of the store that has not been followed by a success."""
        self.fenced: StoreFencedError | None = None
        """The error of the last heartbeat if the store was moved to another one. Reads of a fenced store
        still succeed."""

    def sample(self) -> ClockSample:
        """Read the clocks; call this right before a heartbeat is sent."""
        return ClockSample(
            steady=self._clock.monotonic(), wall=self._clock.now(), offset=self._guard.measure()
        )

    @property
    def staleness(self) -> float:
        """Seconds since the last confirmed heartbeat whose head is folded was sent; infinite if none."""
        confirmed = self.confirmed
        return float("inf") if confirmed is None else self._clock.monotonic() - confirmed

    def require_ready(self) -> None:
        """Raise NotReadyError until the log was read to its end for the first time."""
        if not self.ready:
            raise NotReadyError("this process has not yet read the change log; try again")

    def require_fresh(self) -> None:
        """Raise an UnavailableError unless this process is fresh and its wall clock is accepted.

        A process is fresh if its staleness is at most `max_staleness`.

        The error is NotReadyError, StoreFencedError, ReplicaStaleError, ClockSkewedError, or the last error
        of the store if an operator has to fix it.
        """
        confirmed = self.confirmed
        if confirmed is None or self._clock.monotonic() - confirmed > self._max_staleness:
            self.require_ready()
            if self.fenced is not None:
                raise StoreFencedError(self.fenced.target)
            if isinstance(self.last_error, ACTIONABLE):
                raise type(self.last_error)(str(self.last_error))
            raise ReplicaStaleError(
                "the store has confirmed no heartbeat of this process for too long; try again"
            )
        self._require_clock_accepted()

    def require_clock(self) -> None:
        """Raise NotReadyError while the log is read from its start, or ClockSkewedError."""
        if self.confirmed is None:
            self.require_ready()
            raise NotReadyError("this process reads the change log again from its start; try again")
        self._require_clock_accepted()

    def is_fresh(self) -> bool:
        """Return whether `require_fresh` would pass."""
        return self.status == FRESH

    @property
    def status(self) -> str:
        """The reason why this process may not answer, or "fresh"; `identity doctor` shows it."""
        try:
            self.require_fresh()
        except UnavailableError as error:
            return str(error)
        return FRESH

    def _require_clock_accepted(self) -> None:
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
