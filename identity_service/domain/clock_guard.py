"""Decides whether the wall clock may be trusted, and which denials may be forgotten by it.

A wall clock may be wrong for a moment, or be corrected at any time. The *offset* is the wall clock minus the
boot clock (CLOCK_BOOTTIME, which is never set and goes on while the machine sleeps): it is constant until
somebody sets the wall clock. This module compares offsets; it reads no log and starts no thread.

docs/decisions/0016-denials-are-forgotten-by-the-lowest-offset.md has the argument.
"""

from datetime import UTC, datetime, timedelta
from enum import Enum
from math import isnan
from typing import Final

from identity_service.domain.ports import Clock

STEP: Final = 1.0
"""Seconds by which the offset may differ before a call is refused: what NTP slews between two heartbeats is
far less."""
LONGEST_BACK: Final = timedelta(hours=3)
"""A clock that is further behind the time that the store remembers needs an operator: denials that the log
no longer holds could matter again. The log is kept six hours longer than its facts need it."""
HELD: Final = timedelta(minutes=10)
"""An offset that has held for so long is believed: only then does the store remember the time by it."""
_READINGS: Final = 8
_QUICK: Final = 0.05


class ClockVerdict(Enum):
    """What a heartbeat that the store has confirmed finds out about the wall clock."""

    STEADY = "steady"
    """The offset is accepted."""
    READ_AGAIN = "read again"
    """The clock was set back: the log must be read from its start, since denials may have been forgotten that
    count again."""
    REFUSED = "refused"
    """The clock is so far behind the time that the store remembers that only an operator can accept it."""
    MOVING = "moving"
    """The clock was set while the heartbeat was under way: the next one decides."""


class ClockGuard:
    """The wall clock of one process, as far as it may be trusted.

    One thread at a time may call `judge`, `begin` and `forgettable`; any thread may read.
    """

    def __init__(self, clock: Clock, *, leeway: timedelta) -> None:
        self._clock = clock
        # One step on top: the clock may be that much lower between two heartbeats.
        self._margin = leeway.total_seconds() + STEP
        self.accepted = float("nan")
        """The offset last accepted; NaN, which equals nothing, while none is. For the hot path to compare."""
        self._lowest = float("nan")
        self._forgotten = float("-inf")
        self._window_lowest = float("nan")
        self._window_begin = 0.0
        self._held_since = 0.0
        self._highest = float("-inf")

    @property
    def highest(self) -> datetime | None:
        """The latest wall-clock time that this process has accepted; None = none yet."""
        return None if self._highest == float("-inf") else datetime.fromtimestamp(self._highest, UTC)

    def measure(self) -> float:
        """Return the offset now, in seconds: of several readings the one that took the least time."""
        best, found = float("inf"), float("nan")
        for _ in range(_READINGS):
            before, wall, after = self._clock.boot(), self._clock.unix(), self._clock.boot()
            if after - before < best:
                best, found = after - before, wall - (before + after) / 2
            if best <= _QUICK:
                break
        return found

    def is_steady(self) -> bool:
        """Whether the offset is the accepted one, measured with care; for callers who doubt one reading."""
        return abs(self.measure() - self.accepted) <= STEP

    def judge(self, before: float, mark: datetime | None, retention: timedelta) -> ClockVerdict:
        """Decide about the clock at a heartbeat that the store has confirmed.

        Args:
            before: the offset when the heartbeat was sent.
            mark: the latest time that the store remembers; None = it remembers none.
            retention: how far back the log reaches. What was the lowest offset for so long becomes the lowest
                one, so that a forward step that stays does not keep denials for longer for ever.
        """
        offset, boot = self.measure(), self._clock.boot()
        if abs(offset - before) > STEP:
            return self._reject(ClockVerdict.MOVING)
        now = boot + offset
        if mark is not None and now < mark.timestamp() - LONGEST_BACK.total_seconds():
            return self._reject(ClockVerdict.REFUSED)
        # NaN: nothing was read under any clock yet.
        if isnan(self._lowest) or offset < self._lowest - STEP or now - STEP < self._forgotten:
            return self._reject(ClockVerdict.READ_AGAIN)
        self._accept(offset, boot, retention)
        return ClockVerdict.STEADY

    def begin(self) -> None:
        """The log is about to be read from its start: what it holds is known again, by the clock of now."""
        self._lowest = self.measure()
        self._forgotten = float("-inf")
        self._open_window(self._lowest, self._clock.boot())

    def forgettable(self) -> datetime:
        """Return the time before which denials that ended may be forgotten, and remember it.

        Only after `judge` has said STEADY.
        """
        before = self._clock.boot() + self._lowest - self._margin
        self._forgotten = max(self._forgotten, before)
        return datetime.fromtimestamp(before, UTC)

    def held_time(self) -> datetime | None:
        """Return the wall-clock time if its offset has held for ten minutes, else None."""
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
            self._open_window(offset, boot)
        self._highest = max(self._highest, boot + offset)
        self.accepted = offset

    def _open_window(self, offset: float, boot: float) -> None:
        self._window_lowest, self._window_begin = offset, boot

    def _reject(self, verdict: ClockVerdict) -> ClockVerdict:
        self.accepted = float("nan")
        return verdict
