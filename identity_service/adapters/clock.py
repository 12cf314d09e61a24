"""Clocks: the only place that asks the machine what time it is."""

import time
from datetime import UTC, datetime
from functools import partial
from typing import Final

# Linux's CLOCK_MONOTONIC stands still while the machine sleeps: after an hour of sleep a replica would
# believe that it is fresh.
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Implements the port `Clock`; Verify asks it on every call, so no frame of Python stands between."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    unix = staticmethod(time.time)
    monotonic = staticmethod(partial(time.clock_gettime, _STEADY))
    boot = monotonic
