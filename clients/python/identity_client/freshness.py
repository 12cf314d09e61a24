"""Decides until which time the state that a watch has sent may be trusted.

The module knows no keys and no tokens. Freshness is measured by the boot clock, which is never set. The wall
clock, by which tokens expire, is compared with the service's clock and with its own past. The *offset* is the
wall clock minus the boot clock: `verify` refuses to answer if the offset is not the one that the last
heartbeat accepted, and denials are forgotten by the lowest offset only, so that a wall clock that is wrong
for a moment makes no denial forgotten.

docs/decisions/0016-denials-are-forgotten-by-the-lowest-offset.md has the argument.
"""

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

steady: Final = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""The boot clock, in seconds. It goes on while the machine sleeps: after an hour of sleep the state is
stale."""
wall: Final = time.time
_LEAST_SKEW: Final = 1.0
"""The number of seconds by which the two wall clocks may always differ, however short the leeway is."""
STEP: Final = 1.0
"""The number of seconds by which the offset of the wall clock may differ from the accepted one."""
_WINDOW: Final = 31 * 3600.0
"""The length of a window in seconds, longer than a token lives: denials are forgotten by the lowest offset of
this window and the one before."""
_READINGS: Final = 8
"""The largest number of readings of the offset for one measurement."""
_QUICK: Final = 0.05
"""The duration, in seconds, up to which a reading is accepted at once."""
_LATE: Final = 0.5
"""The part of `max_staleness` by which a message may be later than the fastest message of its stream."""


class LateError(Exception):
    """Messages of this stream arrive too late, so that recent revocations may not have arrived yet."""


class ClockSkewedError(Exception):
    """The clocks of this machine and of the service differ by more than the leeway."""


class ClockSetBackError(Exception):
    """The wall clock was set back: forgotten denials may matter again, so a new snapshot is needed."""


class Freshness:
    """The time until which the state of a watch may be trusted; each heartbeat moves it forward.

    One thread at a time may change it; any thread may read it.
    """

    def __init__(
        self,
        *,
        max_staleness: timedelta,
        leeway: timedelta,
        steady: Callable[[], float] = steady,
        wall: Callable[[], float] = wall,
    ) -> None:
        """Begin as stale, until the first heartbeat.

        Args:
            max_staleness: the time after the last confirmation of the service's store for which the state is
                trusted.
            leeway: the largest difference between the wall clocks of this machine and of the service; at
                least 1 s.
            steady: the boot clock, in seconds.
            wall: the wall clock, in Unix seconds.
        """
        self._max_staleness = max_staleness.total_seconds()
        self._leeway = leeway.total_seconds()
        self._allowed_skew = max(self._leeway, _LEAST_SKEW)
        self.steady = steady
        """The boot clock, in seconds."""
        self.wall = wall
        """The wall clock, in Unix seconds."""
        self._fastest = math.inf
        """The time from sending to receipt of the fastest message of this stream, by the two clocks."""
        self._lowest = math.nan
        """The lowest offset of this window and the one before; NaN = no denial was forgotten yet."""
        self._window_lowest, self._window_begin = math.inf, -math.inf
        self._forgotten = -math.inf
        """The time, in Unix seconds, before which ended denials may have been forgotten."""
        self.until = -math.inf
        """The time until which the state may be trusted, in seconds by the boot clock."""
        self.offset = math.nan
        """The offset last accepted, in seconds; NaN before the first. `verify` compares with it."""

    @property
    def confirmed(self) -> float:
        """The time of the last heartbeat that the service's store confirmed, in seconds by the boot clock."""
        return self.until - self._max_staleness

    def begin(self) -> None:
        """Forget the fastest message: a new stream begins."""
        self._fastest = math.inf

    def start_over(self) -> None:
        """Clear the record of forgotten denials: a snapshot follows, which holds all denials in effect."""
        self._lowest = math.nan
        self._forgotten = -math.inf

    def end(self) -> None:
        """Make the state stale, until the next heartbeat."""
        self.until = -math.inf

    def is_steady(self) -> bool:
        """Return whether the offset is still the accepted one, measured several times if necessary."""
        return abs(self._measure() - self.offset) <= STEP

    def confirm(self, sent_at: datetime, staleness: timedelta) -> None:
        """Apply a heartbeat.

        Args:
            sent_at: the time at which the service sent it, by its clock.
            staleness: the service's staleness at that time.

        Raises LateError, ClockSkewedError, and ClockSetBackError if a new snapshot is needed first.
        """
        received, sent = self.steady(), sent_at.timestamp()
        # The time that a message takes is unknown, but not how much longer it took than the fastest message
        # of its stream: a message that was delayed, or that this process read late, carries a time long past.
        self._fastest = min(self._fastest, received - sent)
        late = received - sent - self._fastest
        if late > self._max_staleness * _LATE:
            raise LateError(f"the messages of the service arrive {late:.0f} s late")
        skew = self.wall() - sent
        if abs(skew) > self._allowed_skew:
            self.end()
            raise ClockSkewedError(f"the clock of this machine differs from the service's by {skew:.0f} s")
        offset = self._measure()
        if math.isnan(self._lowest):  # no denial was forgotten since the snapshot
            self._open_window(received, offset)
            self._lowest = offset
        if offset < self._lowest - STEP or self.wall() - STEP < self._forgotten:
            self.end()
            raise ClockSetBackError("the clock of this machine was set back; all revocations are read again")
        self._lowest, self._window_lowest = min(self._lowest, offset), min(self._window_lowest, offset)
        if received - self._window_begin >= _WINDOW:
            self._lowest = self._window_lowest
            self._open_window(received, offset)
        self.offset = offset
        self.until = received + self._max_staleness - staleness.total_seconds() - late

    def forgettable(self) -> float:
        """Return the time before which denials that ended may be forgotten, in Unix seconds, and remember it.

        Call it after `confirm`. The allowed clock difference is subtracted, since the clock here may still be
        set back by as much; so is the leeway, which may be longer here than at the service.
        """
        before = self.steady() + self._lowest - self._allowed_skew - self._leeway
        self._forgotten = max(self._forgotten, before)
        return before

    def _open_window(self, now: float, offset: float) -> None:
        self._window_lowest, self._window_begin = offset, now

    def _measure(self) -> float:
        """Return the offset now, in seconds: of several readings the one that took the least time."""
        best, found = math.inf, math.nan
        for _ in range(_READINGS):
            before, wall, after = self.steady(), self.wall(), self.steady()
            if after - before < best:
                best, found = after - before, wall - (before + after) / 2
            if best <= _QUICK:
                break
        return found
