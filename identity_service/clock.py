"""Clocks: the only place that asks the machine what time it is."""

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from identity_service.domain.ports import Clock

# Linux's CLOCK_MONOTONIC stands still while the machine sleeps: after an hour of sleep a replica would
# believe that it is fresh.
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Implements the port `Clock`; Verify asks it on every call, so no frame of Python stands between."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    unix = staticmethod(time.time)
    monotonic = staticmethod(partial(time.clock_gettime, _STEADY))


class AnchoredClock:
    """The wall clock as it was at start, carried on by the steady one.

    The embedded store has no clock but the process's own; by this one, a step of the wall clock shows
    as a difference between process and store, as it would with a store on another machine.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall, self._steady = clock.now(), clock.monotonic()

    def now(self) -> datetime:
        return self._wall + timedelta(seconds=self._clock.monotonic() - self._steady)

    def unix(self) -> float:
        return self.now().timestamp()

    def monotonic(self) -> float:
        return self._clock.monotonic()
