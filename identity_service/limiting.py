"""Counts that are forgotten after a while, on the storages of the library `limits`.

The only importer of `limits`, beside the storage that keeps its counts in our Redis.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from limits.storage import MemoryStorage, Storage

_PREFIX: Final = "attempts/"


class LimitsCounter:
    """Implements the port FailureCounter."""

    def __init__(self, storage: Storage, now: Callable[[], float] = time.time) -> None:
        """`now` = Unix seconds on the clock that the storage tells expiries by."""
        self._storage = storage
        self._now = now

    @classmethod
    def in_memory(cls) -> "LimitsCounter":
        """Of this process alone, and gone with it."""
        return cls(MemoryStorage())

    def count(self, key: str) -> int:
        return self._storage.get(_PREFIX + key)

    def add(self, key: str, window: timedelta) -> None:
        self._storage.incr(_PREFIX + key, _seconds(window))

    def claim(self, key: str, pause: timedelta) -> timedelta:
        key = _PREFIX + key
        if self._storage.incr(key, _seconds(pause)) == 1:
            return timedelta(0)
        return timedelta(seconds=max(1.0, self._storage.get_expiry(key) - self._now()))

    def forget(self, *keys: str) -> None:
        for key in keys:
            self._storage.clear(_PREFIX + key)


def _seconds(time: timedelta) -> int:
    return max(1, round(time.total_seconds()))
