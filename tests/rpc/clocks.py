"""Clocks that tests move: the wall clock at once for services on them.

The steady clock stays real, so that heartbeats go on, unless a test ages it.
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
"""Gives a block that moves a clock. It ends once a service on the clock has met the move in a heartbeat."""
Staleness = Callable[[], float | None]
"""Returns the seconds since a service sent the last heartbeat that was confirmed; None = it has stopped."""
_POLL: Final = 0.002
_SHARED = struct.Struct("qqdd")
_PASSED = struct.Struct("d")
_PASSED_AT: Final = _SHARED.size - _PASSED.size
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class ShiftedClock:
    """A clock that stands still until it is moved, or the real one, moved by an offset.

    The first is for tests of time spans: however long its calls take, no window closes and no token grows
    older meanwhile. The second is for tests beside a program that uses the real clock.
    """

    def __init__(self, *, still_at: datetime | None = None) -> None:
        """Set the clock.

        Args:
            still_at: where it stands; None = it goes on.
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
        """Real, so that threads go on, and moved by `age`."""
        return self._clock.monotonic() + self._read()[1]

    def boot(self) -> float:
        """Stands still if the wall clock does: else that would seem to be set back all the time."""
        return self._passed() + (self._clock.boot() if self._still_at is None else 0.0)

    def advance(self, **by: float) -> None:
        """Let time pass, or set the clock back; return once every service has met that in a heartbeat.

        A heartbeat that is under way meanwhile sees two times and takes them for a difference between the
        clocks of service and store: until the next one, every call is UNAVAILABLE.
        """
        by_how_much = timedelta(**by)
        with self._met_by_services():
            offset, aged = self._read()
            self._write(offset + by_how_much, aged)
            if by_how_much > timedelta(0):
                self._pass(by_how_much.total_seconds())

    def step(self, **by: float) -> None:
        """Set the clock: no time passes; return once every service has met that in a heartbeat."""
        with self._met_by_services():
            offset, aged = self._read()
            self._write(offset + timedelta(**by), aged)

    def tick(self) -> None:
        """Let a second pass if it stands still, so that later records are newer than the earlier ones."""
        if self._still_at is not None:
            self.advance(seconds=1)

    def age(self, seconds: float) -> None:
        """Move the steady clock, as if nothing had happened in the services on it for so long."""
        offset, aged = self._read()
        self._write(offset, aged + seconds)

    @contextmanager
    def followed_by(self, meeting: Meeting) -> Iterator[None]:
        """Wait for this service, too, whenever the clock is moved."""
        self._services.append(meeting)
        try:
            yield
        finally:
            self._services.remove(meeting)

    @contextmanager
    def awaiting(self, staleness: Staleness) -> Iterator[None]:
        """Let the block move the clock; then wait until a service in another process has met that."""
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
        """Return the seconds by which tests let time pass, which moves the boot clock as well."""
        return self._passed_seconds

    def _pass(self, seconds: float) -> None:
        self._passed_seconds += seconds


class SharedClock(ShiftedClock):
    """A clock that processes share: all that open the same file are moved together."""

    def __init__(self, path: Path, *, still_at: datetime | None = None) -> None:
        """Open it, or make it. Only the process that makes it says where it stands."""
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
