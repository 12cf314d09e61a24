"""The clocks of the machine; no other module of the service reads them."""

import time
from datetime import UTC, datetime
from functools import partial
from typing import Final

# Linux's CLOCK_MONOTONIC stops while the machine sleeps: after an hour of sleep a replica would count as
# fresh.
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """An implementation of the port `Clock`.

    Verify reads the clocks on every call, so they are C functions, without a Python function around them.
    """

    now = staticmethod(partial(datetime.now, UTC))
    unix = staticmethod(time.time)
    monotonic = staticmethod(partial(time.clock_gettime, _STEADY))
    boot = monotonic
