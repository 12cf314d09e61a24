"""Clocks that stand still until the machine moves them: one time for all, and how wrong each clock is.

The clock implements the port `Clock`. The module knows nothing of services.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

START: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""Far in the future: Redis deletes a key by the clock of its own machine, and must delete none here."""


class TrueTime:
    """The time that passes for every party alike."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def pass_(self, seconds: float) -> None:
        """Let time pass: the wall clocks and the boot clocks of all parties go on."""
        self.elapsed += seconds


class PartyClock:
    """The clocks of one party: the boot clock shows the true time, the wall clock is wrong by `error`."""

    def __init__(self, time: TrueTime) -> None:
        self._time = time
        self.error = 0.0
        """Seconds by which the wall clock is ahead."""
        self.highest = self.unix()
        """The latest that the wall clock has ever shown."""

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
