"""Until when what a watch has told may be trusted. Knows no keys and no tokens.

Counted by the boot clock, which is never set. The wall clock, by which tokens expire, is compared with the
service's, and with its own past: with *offset* = wall clock - boot clock, a call is refused if the offset is
not the one that the last heartbeat accepted, and denials are forgotten by the lowest offset only, so that a
wall clock that is wrong for a moment makes nothing forgotten.
"""

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

steady: Final = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""Goes on while the machine sleeps: after an hour of sleep nothing is fresh."""
wall: Final = time.time
_LEAST_SKEW: Final = 1.0
STEP: Final = 1.0
"""Seconds by which the offset of the wall clock may differ from the accepted one."""
_WINDOW: Final = 31 * 3600.0
"""Seconds after which an offset that was not undercut becomes the lowest one: longer than a token lives."""
_READINGS: Final = 8
_QUICK: Final = 0.05
_LATE: Final = 0.5
"""The part of `max_staleness` by which messages may come later than the fastest one of their stream."""


class LateError(Exception):
    """Messages of this stream come too late: what happened lately may still be on its way behind them."""


class ClockSkewedError(Exception):
    """This process and the service do not agree on what has expired."""


class ClockSetBackError(Exception):
    """The wall clock was set back: denials that were forgotten may count again, so all must be told anew."""


class Freshness:
    """Heartbeats move `until`; one thread hears them, all may read."""

    def __init__(
        self,
        *,
        max_staleness: timedelta,
        leeway: timedelta,
        steady: Callable[[], float] = steady,
        wall: Callable[[], float] = wall,
    ) -> None:
        """
        Args:
            max_staleness: how long after the last confirmation of the service's store anything is trusted.
            leeway: how far the clocks on the wall may differ.
        """
        self._max_staleness = max_staleness.total_seconds()
        self._leeway = leeway.total_seconds()
        self._allowed_skew = max(self._leeway, _LEAST_SKEW)
        self._steady = steady
        self._wall = wall
        self._fastest = math.inf
        self._lowest = math.nan
        self._window_lowest, self._window_begin = math.inf, -math.inf
        self._forgotten = -math.inf
        self.until = -math.inf
        """By the steady clock."""
        self.offset = math.nan
        """The offset last accepted; NaN, which equals nothing, while none is. For `verify` to compare."""

    @property
    def confirmed(self) -> float:
        """When the service had last heard of its store, by the steady clock."""
        return self.until - self._max_staleness

    def begin(self) -> None:
        """A new stream: nothing waits on its way yet."""
        self._fastest = math.inf

    def start_over(self) -> None:
        """Everything that is live is about to be told, so that nothing counts as forgotten any more."""
        self._lowest = math.nan
        self._forgotten = -math.inf

    def end(self) -> None:
        """Nothing is fresh from now on."""
        self.until = -math.inf

    def is_steady(self) -> bool:
        """Whether the wall clock is the accepted one, measured with care."""
        return abs(self._measure() - self.offset) <= STEP

    def confirm(self, sent_at: datetime, staleness: timedelta) -> None:
        """A heartbeat says when it was sent, and for how long the service had heard nothing then.

        Raises LateError, ClockSkewedError; ClockSetBackError: everything must be told anew first.
        """
        heard, sent = self._steady(), sent_at.timestamp()
        # How long a message takes is not known, but how much longer than the fastest one: those that nobody
        # read for a while, or that were held up, come with a time that is long past.
        self._fastest = min(self._fastest, heard - sent)
        late = heard - sent - self._fastest
        if late > self._max_staleness * _LATE:
            raise LateError(f"its messages come {late:.0f} s late")
        skew = self._wall() - sent
        if abs(skew) > self._allowed_skew:
            self.end()
            raise ClockSkewedError(f"the clock here differs from the service's by {skew:.0f} s")
        offset = self._measure()
        if math.isnan(self._lowest):  # nothing was forgotten since all was told
            self._open_window(heard, offset)
            self._lowest = offset
        if offset < self._lowest - STEP or self._wall() - STEP < self._forgotten:
            self.end()
            raise ClockSetBackError("the clock here was set back; all revocations are read again")
        self._lowest, self._window_lowest = min(self._lowest, offset), min(self._window_lowest, offset)
        if heard - self._window_begin >= _WINDOW:
            self._lowest = self._window_lowest
            self._open_window(heard, offset)
        self.offset = offset
        self.until = heard + self._max_staleness - staleness.total_seconds() - late

    def forgettable(self) -> float:
        """Return the time before which denials that ended may be forgotten, and remember it; after `confirm`.

        The clock here may still be set back by as much as it may differ, and its leeway may be longer than
        the one that the service denies a token for.
        """
        before = self._steady() + self._lowest - self._allowed_skew - self._leeway
        self._forgotten = max(self._forgotten, before)
        return before

    def _open_window(self, now: float, offset: float) -> None:
        self._window_lowest, self._window_begin = offset, now

    def _measure(self) -> float:
        """Return the offset now: of several readings the one that took the least time."""
        best, found = math.inf, math.nan
        for _ in range(_READINGS):
            before, wall, after = self._steady(), self._wall(), self._steady()
            if after - before < best:
                best, found = after - before, wall - (before + after) / 2
            if best <= _QUICK:
                break
        return found
