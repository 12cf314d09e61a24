"""Fakes of the port `Clock` and of `time.monotonic`.

Services that run in tests use the clocks of `tests/rpc/clocks.py`.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

FAR_FUTURE: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""A time at which no key in Redis has expired by the clock of the server itself."""


class FakeClock:
    """Implements the port `Clock` with a time that only the test changes."""

    def __init__(self, start: datetime = FAR_FUTURE) -> None:
        self.error = timedelta(0)
        """The time by which the wall clock is ahead of the correct time."""
        self._start = start
        self._passed = timedelta(0)

    def now(self) -> datetime:
        return self._start + self._passed + self.error

    def unix(self) -> float:
        return self.now().timestamp()

    def monotonic(self) -> float:
        return 1000.0 + self._passed.total_seconds()

    def boot(self) -> float:
        return self.monotonic()

    def advance(self, by: timedelta) -> None:
        """Let time pass, by which every clock advances."""
        self._passed += by

    def step(self, by: timedelta) -> None:
        """Set the wall clock without letting time pass."""
        self.error += by


class MonotonicClock:
    """A function like `time.monotonic` whose time a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
