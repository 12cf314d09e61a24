"""Exponential backoff with full jitter, for clients that reconnect or resume a stream."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from identity_client.errors import IdentityError

FIRST_PAUSE: Final = timedelta(milliseconds=100)
LONGEST_PAUSE: Final = timedelta(seconds=2)
"""The longest pause, and the limit of the gRPC channel's own backoff, so that neither waits long after the
other is ready."""

_SHUTTING_DOWN: Final = "SHUTTING_DOWN"


class Backoff:
    """The pauses of one client: random, from zero to a bound that doubles with each failure.

    This keeps clients that lost the same process at the same moment from reconnecting at the same moment.
    """

    def __init__(
        self,
        *,
        first: timedelta = FIRST_PAUSE,
        longest: timedelta = LONGEST_PAUSE,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Begin with the shortest pauses.

        Args:
            first: the bound of the first pause.
            longest: the largest bound, and the largest RetryInfo of a service that the client follows.
            uniform: returns a random number between its two arguments.
        """
        self._first = first.total_seconds()
        self._longest = longest.total_seconds()
        self._uniform = uniform
        self._bound = self._first

    def reset(self) -> None:
        """Return to the shortest pauses, after an attempt has succeeded."""
        self._bound = self._first

    def next_pause(self, error: BaseException | None = None) -> float:
        """Return the number of seconds to wait after this failure.

        `error.retry_after` is added to the random pause, up to `longest`. It is ignored if the process is
        shutting down, since another process may already serve.
        """
        asked = 0.0
        if isinstance(error, IdentityError) and error.reason != _SHUTTING_DOWN and error.retry_after:
            asked = min(max(error.retry_after.total_seconds(), 0.0), self._longest)
        pause = asked + self._uniform(0.0, self._bound)
        self._bound = min(2 * self._bound, self._longest)
        return pause
