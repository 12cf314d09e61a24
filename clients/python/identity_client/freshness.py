"""Until when what a watch has told may be trusted. Knows no keys and no tokens.

Counted by a steady clock. The clock on the wall, by which tokens expire, is only held against the service's.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

steady: Final = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""Goes on while the machine sleeps: after an hour of sleep nothing is fresh."""
wall: Final = time.time
_LEAST_SKEW: Final = 1.0
_LATE: Final = 0.5
"""The part of `max_staleness` by which messages may come later than the fastest one of their stream."""


class LateError(Exception):
    """Messages of this stream come too late: what happened lately may still be on its way behind them."""


class ClockSkewedError(Exception):
    """This process and the service do not agree on what has expired."""


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
        self._fastest = float("inf")
        self.until = float("-inf")
        """By the steady clock."""

    def begin(self) -> None:
        """A new stream: nothing waits on its way yet."""
        self._fastest = float("inf")

    def end(self) -> None:
        """Nothing is fresh from now on."""
        self.until = float("-inf")

    def confirm(self, sent_at: datetime, staleness: timedelta) -> None:
        """A heartbeat says when it was sent, and for how long the service had heard nothing then.

        Raises LateError, ClockSkewedError.
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
        self.until = heard + self._max_staleness - staleness.total_seconds() - late

    def forgettable(self, sent_at: datetime) -> float:
        """Denials that ended before then are of tokens that have expired, wherever the clocks go.

        The clock here may still be set back by as much as it may differ, and its leeway may be longer than
        the one that the service denies a token for.
        """
        return min(sent_at.timestamp(), self._wall()) - self._allowed_skew - self._leeway
