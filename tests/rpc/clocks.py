"""Clocks that tests move: the wall clock at once for services on them; the steady clock stays real, so that
heartbeats go on, unless a test ages it.
"""

import mmap
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from identity_service.clock import SystemClock

Staleness = Callable[[], float | None]
"""How many seconds ago a service sent the last heartbeat that was confirmed; None = it has stopped."""
_PATIENCE: Final = 60.0
_POLL: Final = 0.002
_MOVED = struct.Struct("qd")


class ShiftedClock:
    """The real clock, moved by an offset."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._offset = timedelta(0)
        self._aged = 0.0
        self._services: list[Staleness] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + self._read()[0]

    def unix(self) -> float:
        return self.now().timestamp()

    def monotonic(self) -> float:
        """Real, so that threads go on, and moved by `age`."""
        return self._clock.monotonic() + self._read()[1]

    def advance(self, **by: float) -> None:
        """Move the clock, and return once every service on it has met the new time in a heartbeat.

        A heartbeat that is under way meanwhile sees two times and takes them for a difference between the
        clocks of service and store: until the next one, every call is UNAVAILABLE.
        """
        offset, aged = self._read()
        self._write(offset + timedelta(**by), aged)
        moved = self.monotonic()
        for staleness in self._services:
            self._await_heartbeat_after(moved, staleness)

    def age(self, seconds: float) -> None:
        """Move the steady clock, as if nothing had happened in the services on it for so long."""
        offset, aged = self._read()
        self._write(offset, aged + seconds)

    @contextmanager
    def followed_by(self, staleness: Staleness) -> Iterator[None]:
        """Wait for this service, too, whenever the clock is moved."""
        self._services.append(staleness)
        try:
            yield
        finally:
            self._services.remove(staleness)

    def _await_heartbeat_after(self, moment: float, staleness: Staleness) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            asked, age = self.monotonic(), staleness()
            if age is None or asked - age > moment:
                return
            assert time.monotonic() < deadline, "the service confirms no heartbeat after its clock was moved"
            time.sleep(_POLL)

    def _read(self) -> tuple[timedelta, float]:
        return self._offset, self._aged

    def _write(self, offset: timedelta, aged: float) -> None:
        self._offset, self._aged = offset, aged


class SharedClock(ShiftedClock):
    """One that processes share: whoever opens the same file is moved along."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        if not path.exists():
            path.write_bytes(_MOVED.pack(0, 0))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _MOVED.size)

    def _read(self) -> tuple[timedelta, float]:
        offset, aged = _MOVED.unpack_from(self._memory)
        return timedelta(microseconds=offset), aged

    def _write(self, offset: timedelta, aged: float) -> None:
        _MOVED.pack_into(self._memory, 0, round(offset / timedelta(microseconds=1)), aged)
