"""The refusal of clients beyond a bound of their address: which get no grace, and the turn of each.

A client without a credential can open thousands of calls that never send a request, and open again each call
that the service ends. That costs the client nothing, and the service about 50 µs for each call.
"""

import math
import threading
from collections.abc import Callable
from typing import Final

from identity_shared.lru_cache import LruCache

_STRIKE: Final = 5.0
"""The number of seconds for which an address has no grace after one of its requests did not arrive within
it."""
_MAX_ADDRESSES: Final = 8192
"""The largest number of addresses that are remembered; the oldest are forgotten first."""
_BATCH: Final = 50
"""The number of calls that are refused together, which costs less than one by one."""
_INTERVAL: Final = 0.1
"""Seconds between two batches."""


class Strikes:
    """The addresses that recently let a grace period pass without a request. Any thread may use it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Create an empty collection; `monotonic` returns the time in seconds."""
        self._monotonic = monotonic
        self._until = LruCache[str, float](_MAX_ADDRESSES)
        self.seconds = _STRIKE
        """The number of seconds for which a strike counts; tests set another value."""

    def add(self, address: str) -> None:
        """Record that a request of this address did not arrive within its grace period."""
        self._until.put(address, self._monotonic() + self.seconds, weight=1)

    def has(self, address: str) -> bool:
        """Return whether a request of this address missed its grace period within the last 5 s."""
        until = self._until.get(address)
        return until is not None and self._monotonic() < until


class RefusalTurns:
    """The turns of the calls that are to be refused. Any thread may use it.

    If thousands of calls were refused together, the calls of other clients would wait meanwhile. A call that
    waits to be refused costs no time, and its client cannot open another in its place.
    """

    def __init__(self, most: int, monotonic: Callable[[], float]) -> None:
        """Create turns, of which none is taken.

        Args:
            most: the number of calls that may wait, since each takes memory; others are refused at once.
            monotonic: returns the time in seconds.
        """
        self._most = most
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._next = -math.inf
        self.interval = _INTERVAL
        """The number of seconds between two batches; tests set another value."""

    def take(self) -> float:
        """Take the next turn; return the seconds until it, or 0.0 if the call is to be refused at once.

        The first 50 calls are refused at once, if none was refused in the interval before.
        """
        with self._lock:
            now, each = self._monotonic(), self.interval / _BATCH
            turn = max(self._next, now - self.interval)
            if round((turn - now) / each) >= self._most:
                return 0.0
            self._next = turn + each
        return 0.0 if turn <= now else math.ceil(turn / self.interval) * self.interval - now

    @property
    def waiting(self) -> int:
        """Return the number of turns that have been taken and have not come."""
        ahead = self._next - self._monotonic()
        return round(ahead / self.interval * _BATCH) if ahead > 0 else 0
