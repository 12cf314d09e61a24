"""Clocks that tests move: the wall clock alone; the steady clock stays real, so that beats go on."""

import mmap
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

from identity_service.clock import SystemClock

_OFFSET = struct.Struct("q")


class ShiftedClock:
    """The real clock, moved by an offset."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._offset = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._read()

    def unix(self) -> float:
        return self.now().timestamp()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def advance(self, **by: float) -> None:
        self._write(self._read() + timedelta(**by))

    def _read(self) -> timedelta:
        return self._offset

    def _write(self, offset: timedelta) -> None:
        self._offset = offset


class SharedClock(ShiftedClock):
    """One that processes share: whoever opens the same file is moved along."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        if not path.exists():
            path.write_bytes(_OFFSET.pack(0))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _OFFSET.size)

    def _read(self) -> timedelta:
        return timedelta(microseconds=_OFFSET.unpack_from(self._memory)[0])

    def _write(self, offset: timedelta) -> None:
        _OFFSET.pack_into(self._memory, 0, round(offset / timedelta(microseconds=1)))
