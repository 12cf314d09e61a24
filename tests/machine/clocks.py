"""Clocks that the machine moves: one true time, and an error for each party's clock.

They implement the port `Clock`. The module knows nothing of services.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

START: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""A start in the far future: Redis expires keys by the real clock, and must expire none here."""


class TrueTime:
    """The true time, which passes equally for every party."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def pass_(self, seconds: float) -> None:
        """Let time pass, by which the wall clocks and boot clocks of all parties advance."""
        self.elapsed += seconds


class PartyClock:
    """The clocks of a process or watcher: its boot clock is right, and its wall clock is wrong by `error`."""

    def __init__(self, time: TrueTime) -> None:
        self._time = time
        self.error = 0.0
        """The seconds by which the wall clock is ahead."""
        self.highest = self.unix()
        """The latest time that the wall clock has ever shown."""

    def step(self, seconds: float) -> None:
        """Set the wall clock."""
        self.error += seconds
        self.highest = max(self.highest, self.unix())

    def now(self) -> datetime:
        return START + timedelta(seconds=self._time.elapsed + self.error)

    def unix(self) -> float:
        return START.timestamp() + self._time.elapsed + self.error

    def monotonic(self) -> float:
        return 1000.0 + self._time.elapsed

    def boot(self) -> float:
        return self.monotonic()
