"""Clocks that tests move. A test moves the wall clock of the services that use such a clock.

The monotonic clock runs on, so that heartbeats continue, unless a test moves it with `age`.
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

ClockMove = Callable[[], AbstractContextManager[None]]
"""Returns a context manager for one service. The block inside moves the clock; the context manager exits once
the service has sent a heartbeat with the new time."""
Staleness = Callable[[], float | None]
"""Returns the seconds since the service sent its last confirmed heartbeat; None = the service has stopped."""
_POLL: Final = 0.002
_SHARED = struct.Struct("qqdd")
_PASSED = struct.Struct("d")
_PASSED_AT: Final = _SHARED.size - _PASSED.size
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class ShiftedClock:
    """A clock that either stands still until a test moves it, or runs with an offset from the real clock.

    The clock that stands still is for tests of time spans: however long the calls of the test take, no window
    closes and no token grows older meanwhile. The running clock is for tests with a program that uses the
    real clock.
    """

    def __init__(self, *, still_at: datetime | None = None) -> None:
        """Set the clock.

        Args:
            still_at: the time at which the clock stands still; None = the clock runs.
        """
        self._clock = SystemClock()
        self._still_at = still_at
        self._offset = timedelta(0)
        self._aged = 0.0
        self._passed_seconds = 0.0
        self._services: list[ClockMove] = []

    def now(self) -> datetime:
        return (self._still_at or datetime.now(UTC)) + self._read()[0]

    def unix(self) -> float:
        return self.now().timestamp()

    def monotonic(self) -> float:
        """Return the real monotonic time plus the seconds given to `age`, so that waiting threads go on."""
        return self._clock.monotonic() + self._read()[1]

    def boot(self) -> float:
        """Return the boot clock, which stands still if the wall clock does.

        If the boot clock ran while the wall clock stands still, the service would conclude that its wall
        clock is set back all the time.
        """
        return self._passed() + (self._clock.boot() if self._still_at is None else 0.0)

    def advance(self, **by: float) -> None:
        """Let time pass, or set the clock back; return once each service uses the new time.

        A service uses the new time once it has sent a heartbeat after the move. A heartbeat that runs during
        the move would read the old and the new time, and the service would report a difference between its
        clock and that of the store: until its next heartbeat, every call would be UNAVAILABLE.
        """
        by_how_much = timedelta(**by)
        with self._noticed_by_services():
            offset, aged = self._read()
            self._write(offset + by_how_much, aged)
            if by_how_much > timedelta(0):
                self._pass(by_how_much.total_seconds())

    def step(self, **by: float) -> None:
        """Set the wall clock without letting time pass.

        Returns once each service has sent a heartbeat with the new time.
        """
        with self._noticed_by_services():
            offset, aged = self._read()
            self._write(offset + timedelta(**by), aged)

    def tick(self) -> None:
        """Let a second pass if the clock stands still, so that later records are newer."""
        if self._still_at is not None:
            self.advance(seconds=1)

    def age(self, seconds: float) -> None:
        """Move the monotonic clock forward by some seconds, as if no heartbeat had succeeded in that time."""
        offset, aged = self._read()
        self._write(offset, aged + seconds)

    @contextmanager
    def followed_by(self, move: ClockMove) -> Iterator[None]:
        """Make each move of the clock wait for one more service until the block ends."""
        self._services.append(move)
        try:
            yield
        finally:
            self._services.remove(move)

    @contextmanager
    def awaiting(self, staleness: Staleness) -> Iterator[None]:
        """Let the block move the clock; then wait until a service in another process has sent a heartbeat."""
        yield
        moved, deadline = self.monotonic(), time.monotonic() + PATIENCE
        while True:
            asked, age = self.monotonic(), staleness()
            if age is None or asked - age > moved:
                return
            assert time.monotonic() < deadline, "the service confirms no heartbeat after its clock was moved"
            time.sleep(_POLL)

    @contextmanager
    def _noticed_by_services(self) -> Iterator[None]:
        with ExitStack() as services:
            for move in self._services:
                services.enter_context(move())
            yield

    def _read(self) -> tuple[timedelta, float]:
        return self._offset, self._aged

    def _write(self, offset: timedelta, aged: float) -> None:
        self._offset, self._aged = offset, aged

    def _passed(self) -> float:
        """Return the total of seconds that tests let pass, by which the boot clock is moved as well."""
        return self._passed_seconds

    def _pass(self, seconds: float) -> None:
        self._passed_seconds += seconds


class SharedClock(ShiftedClock):
    """A clock that processes share through a file: a move in one process moves the clock in all of them."""

    def __init__(self, path: Path, *, still_at: datetime | None = None) -> None:
        """Open the file of the clock, or create it.

        `still_at` has an effect only in the process that creates it.
        """
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
