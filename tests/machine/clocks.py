"""Clocks for the state machine: they stand still until it moves them, and each may be wrong on its own.

The class `PartyClock` implements the port `Clock`. The module knows nothing of services.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

START: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""A start far in the future: Redis expires keys by the real clock of its machine, and must expire none
here."""


class TrueTime:
    """The true time, which passes for all parties alike."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def pass_(self, seconds: float) -> None:
        """Let seconds pass: the wall clocks and the boot clocks of all parties advance by them."""
        self.elapsed += seconds


class PartyClock:
    """The clocks of a process or watcher: its boot clock is right, and its wall clock is wrong by `error`."""

    def __init__(self, time: TrueTime) -> None:
        self._time = time
        self.error = 0.0
        """Seconds by which the wall clock is ahead."""
        self.highest = self.unix()
        """The latest Unix time that the wall clock has ever shown."""

    def step(self, seconds: float) -> None:
        """Move the wall clock by `seconds`, which may be negative."""
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
