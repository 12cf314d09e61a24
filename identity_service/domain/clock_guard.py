"""The guard of the wall clock: decides whether it can be trusted and which denials may be evicted by it.

A wall clock may be wrong for a moment, or be corrected at any time. The *offset* is the wall clock minus the
boot clock (CLOCK_BOOTTIME, which is never set and goes on while the machine sleeps): it is constant until the
wall clock is set. This module compares offsets; it reads no log and starts no thread.

docs/decisions/0016-denials-are-forgotten-by-the-lowest-offset.md has the argument.
"""

from datetime import UTC, datetime, timedelta
from enum import Enum
from math import isnan
from typing import Final

from identity_service.domain.ports import Clock

STEP: Final = 1.0
"""The largest change of the offset, in seconds, that is accepted without a check: the slew of NTP between two
heartbeats is far less."""
LONGEST_BACK: Final = timedelta(hours=3)
"""A clock that is further than this behind the time that the store remembers has to be accepted by an
operator: denials that the log no longer holds could count again. The log is kept six hours longer than its
facts need."""
HELD: Final = timedelta(minutes=10)
"""An offset is trusted once it has not changed for this long: only then does the store remember the time by
it."""
_READINGS: Final = 8
_FAST_READING: Final = 0.05


class ClockVerdict(Enum):
    """The verdict about the wall clock at a confirmed heartbeat."""

    STEADY = "steady"
    """The offset is accepted."""
    READ_AGAIN = "read again"
    """The clock was set back: the log must be read from its start, since denials that were evicted may count
    again."""
    REFUSED = "refused"
    """The clock is so far behind the time that the store remembers that an operator has to accept it."""
    MOVING = "moving"
    """The clock was set while the heartbeat was in progress; the next heartbeat decides."""


class ClockGuard:
    """The guard of one process's wall clock.

    One thread at a time may call `judge`, `begin` and `forgettable`; any thread may read.
    """

    def __init__(self, clock: Clock, *, leeway: timedelta) -> None:
        self._clock = clock
        # Plus one step, by which the clock may be behind between two heartbeats.
        self._margin = leeway.total_seconds() + STEP
        self.accepted = float("nan")
        """The offset last accepted, in seconds; NaN, which equals nothing, if none is accepted. Verify
        compares it on every call."""
        self._lowest = float("nan")
        self._forgotten = float("-inf")
        self._window_lowest = float("nan")
        self._window_begin = 0.0
        self._held_since = 0.0
        self._highest = float("-inf")

    @property
    def highest(self) -> datetime | None:
        """Return the latest wall-clock time that this process has accepted; None = none yet."""
        return None if self._highest == float("-inf") else datetime.fromtimestamp(self._highest, UTC)

    def measure(self) -> float:
        """Return the current offset in seconds: of up to eight readings, the one that took the least time."""
        best, found = float("inf"), float("nan")
        for _ in range(_READINGS):
            before, wall, after = self._clock.boot(), self._clock.unix(), self._clock.boot()
            if after - before < best:
                best, found = after - before, wall - (before + after) / 2
            if best <= _FAST_READING:
                break
        return found

    def is_steady(self) -> bool:
        """Return whether the current offset is the accepted one, measured carefully.

        For callers whose single reading differed from it.
        """
        return abs(self.measure() - self.accepted) <= STEP

    def judge(self, before: float, mark: datetime | None, retention: timedelta) -> ClockVerdict:
        """Decide about the clock at a heartbeat that the store has confirmed.

        Args:
            before: the offset when the heartbeat was sent.
            mark: the latest time that the store remembers; None = it remembers none.
            retention: how far back the log reaches. The lowest offset within this time becomes the lowest
                offset that counts, so that a lasting forward step does not keep denials longer for ever.
        """
        offset, boot = self.measure(), self._clock.boot()
        if abs(offset - before) > STEP:
            return self._reject(ClockVerdict.MOVING)
        now = boot + offset
        if mark is not None and now < mark.timestamp() - LONGEST_BACK.total_seconds():
            return self._reject(ClockVerdict.REFUSED)
        # NaN: the log was not read under any clock yet.
        if isnan(self._lowest) or offset < self._lowest - STEP or now - STEP < self._forgotten:
            return self._reject(ClockVerdict.READ_AGAIN)
        self._accept(offset, boot, retention)
        return ClockVerdict.STEADY

    def begin(self) -> None:
        """Start anew by the current clock: the log is about to be read from its start."""
        self._lowest = self.measure()
        self._forgotten = float("-inf")
        self._window_lowest, self._window_begin = self._lowest, self._clock.boot()

    def forgettable(self) -> datetime:
        """Return the time before which ended denials may be evicted, and remember it.

        Only after `judge` has returned STEADY.
        """
        before = self._clock.boot() + self._lowest - self._margin
        self._forgotten = max(self._forgotten, before)
        return datetime.fromtimestamp(before, UTC)

    def held_time(self) -> datetime | None:
        """Return the wall-clock time if its offset has not changed for ten minutes, else None."""
        boot = self._clock.boot()
        if isnan(self.accepted) or boot - self._held_since < HELD.total_seconds():
            return None
        return datetime.fromtimestamp(boot + self.accepted, UTC)

    def _accept(self, offset: float, boot: float, retention: timedelta) -> None:
        if isnan(self.accepted) or abs(offset - self.accepted) > STEP:
            self._held_since = boot
        self._lowest = min(self._lowest, offset)
        self._window_lowest = min(self._window_lowest, offset)
        if boot - self._window_begin >= retention.total_seconds() > 0:
            self._lowest = self._window_lowest
            self._window_lowest, self._window_begin = offset, boot
        self._highest = max(self._highest, boot + offset)
        self.accepted = offset

    def _reject(self, verdict: ClockVerdict) -> ClockVerdict:
        self.accepted = float("nan")
        return verdict
