"""Clocks that tests move; all services on a clock notice a move before the test goes on.

Tests move the wall clock. The steady clock is the real one, so that heartbeats continue, unless a test ages
it.
"""

import mmap
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from identity_service.adapters.clock import SystemClock
from tests.patience import PATIENCE

Meeting = Callable[[], AbstractContextManager[None]]
"""A function that a service provides: within its block a test moves the clock.

The block ends after a heartbeat of the service that has read the moved clock."""
Staleness = Callable[[], float | None]
"""Returns the age in seconds of a service's last confirmed heartbeat; None = the service has stopped."""
_POLL: Final = 0.002
_SHARED = struct.Struct("qqdd")
_PASSED = struct.Struct("d")
_PASSED_AT: Final = _SHARED.size - _PASSED.size
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class ShiftedClock:
    """A clock that stands still until a test moves it, or the real clock with an offset that a test sets.

    The first kind is for tests about durations: however long their calls take, no grace window closes and no
    token ages. The second kind is for tests with a program that uses the real clock.
    """

    def __init__(self, *, still_at: datetime | None = None) -> None:
        """Create the clock.

        Args:
            still_at: the time at which it stands still; None = it runs.
        """
        self._clock = SystemClock()
        self._still_at = still_at
        self._offset = timedelta(0)
        self._aged = 0.0
        self._passed_seconds = 0.0
        self._services: list[Meeting] = []

    def now(self) -> datetime:
        return (self._still_at or datetime.now(UTC)) + self._read()[0]

    def unix(self) -> float:
        return self.now().timestamp()

    def monotonic(self) -> float:
        """Return the real steady time plus what `age` has added; threads need a running clock."""
        return self._clock.monotonic() + self._read()[1]

    def boot(self) -> float:
        """Return the boot time.

        It stands still if the wall clock does; otherwise the wall clock would seem to be set back
        continuously.
        """
        return self._passed() + (self._clock.boot() if self._still_at is None else 0.0)

    def advance(self, **by: float) -> None:
        """Let time pass, or set the clock back; return after each service's next heartbeat.

        A heartbeat during the move would read two different times, and conclude that the clocks of service
        and store differ. Every call would then be UNAVAILABLE until the next heartbeat.
        """
        by_how_much = timedelta(**by)
        with self._met_by_services():
            offset, aged = self._read()
            self._write(offset + by_how_much, aged)
            if by_how_much > timedelta(0):
                self._pass(by_how_much.total_seconds())

    def step(self, **by: float) -> None:
        """Set the wall clock without letting time pass; return after each service's next heartbeat."""
        with self._met_by_services():
            offset, aged = self._read()
            self._write(offset + timedelta(**by), aged)

    def tick(self) -> None:
        """Let a second pass on a clock that stands still, so that later records have a later time."""
        if self._still_at is not None:
            self.advance(seconds=1)

    def age(self, seconds: float) -> None:
        """Advance the steady clock, as if the services had done nothing for so many seconds."""
        offset, aged = self._read()
        self._write(offset, aged + seconds)

    @contextmanager
    def followed_by(self, meeting: Meeting) -> Iterator[None]:
        """Have every later move of the clock wait for a heartbeat of this service, until the block ends."""
        self._services.append(meeting)
        try:
            yield
        finally:
            self._services.remove(meeting)

    @contextmanager
    def awaiting(self, staleness: Staleness) -> Iterator[None]:
        """Let the block move the clock, and wait for a heartbeat of a service in another process."""
        yield
        moved, deadline = self.monotonic(), time.monotonic() + PATIENCE
        while True:
            asked, age = self.monotonic(), staleness()
            if age is None or asked - age > moved:
                return
            assert time.monotonic() < deadline, "the service confirms no heartbeat after its clock was moved"
            time.sleep(_POLL)

    @contextmanager
    def _met_by_services(self) -> Iterator[None]:
        with ExitStack() as services:
            for meeting in self._services:
                services.enter_context(meeting())
            yield

    def _read(self) -> tuple[timedelta, float]:
        return self._offset, self._aged

    def _write(self, offset: timedelta, aged: float) -> None:
        self._offset, self._aged = offset, aged

    def _passed(self) -> float:
        """Return the total of the time that tests have let pass; the boot clock advances by it too."""
        return self._passed_seconds

    def _pass(self, seconds: float) -> None:
        self._passed_seconds += seconds


class SharedClock(ShiftedClock):
    """A clock in a file: all processes that open the file see its moves."""

    def __init__(self, path: Path, *, still_at: datetime | None = None) -> None:
        """Open the clock, or create it; only the process that creates it chooses where it stands."""
        if not path.exists():
            stands = 0 if still_at is None else (still_at - _EPOCH) // _MICROSECOND
            path.write_bytes(_SHARED.pack(stands, 0, 0, 0))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SHARED.size)
        self._stands: int = _SHARED.unpack_from(self._memory)[0]
        super().__init__(still_at=_EPOCH + self._stands * _MICROSECOND if self._stands else None)

    def _read(self) -> tuple[timedelta, float]:
        _, offset, aged, _ = _SHARED.unpack_from(self._memory)
        return offset * _MICROSECOND, aged

    def _write(self, offset: timedelta, aged: float) -> None:
        passed = self._passed()
        _SHARED.pack_into(self._memory, 0, self._stands, offset // _MICROSECOND, aged, passed)

    def _passed(self) -> float:
        (passed,) = _PASSED.unpack_from(self._memory, _PASSED_AT)
        return float(passed)

    def _pass(self, seconds: float) -> None:
        _PASSED.pack_into(self._memory, _PASSED_AT, self._passed() + seconds)
