"""How long to wait before the next attempt: exponential backoff with full jitter."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from identity_client.errors import IdentityError

FIRST_PAUSE: Final = timedelta(milliseconds=100)
LONGEST_PAUSE: Final = timedelta(seconds=2)
"""The channel of gRPC keeps to the same two, so that neither waits long after the other is ready."""

_SHUTTING_DOWN: Final = "SHUTTING_DOWN"


class Backoff:
    """Pauses of one client. They are spread evenly from zero to a bound that doubles with each failure.

    Clients that lost the same process at the same moment so come back one after the other.
    """

    def __init__(
        self,
        *,
        first: timedelta = FIRST_PAUSE,
        longest: timedelta = LONGEST_PAUSE,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """
        Args:
            first: the bound of the first pause.
            longest: the largest bound, and the most that a service may ask for by RetryInfo.
            uniform: gives a random number between two.
        """
        self._first = first.total_seconds()
        self._longest = longest.total_seconds()
        self._uniform = uniform
        self._bound = self._first

    def reset(self) -> None:
        """Begin with short pauses again: an attempt has succeeded."""
        self._bound = self._first

    def next_pause(self, error: Exception | None = None) -> float:
        """Return how many seconds to wait after this failure.

        A RetryInfo in the error is waited for in addition, up to `longest`. One exception: a process that
        shuts down speaks for itself, and another one may serve already.
        """
        asked = 0.0
        if isinstance(error, IdentityError) and error.reason != _SHUTTING_DOWN and error.retry_after:
            asked = min(max(error.retry_after.total_seconds(), 0.0), self._longest)
        pause = asked + self._uniform(0.0, self._bound)
        self._bound = min(2 * self._bound, self._longest)
        return pause
