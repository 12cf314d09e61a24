"""Fails fast while a server is away: one caller at a time tries it again, everybody else hears no at once.

Owns the pauses between the trials. Knows nothing of what is asked, nor of how it failed.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Final

from identity_service.domain.errors import StoreUnavailableError, UnsafeStoreError

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_LONGEST_REFUSAL: Final = 0.5
"""Of a server that answers and is refused: it is looked at again this soon, so that mending it shows."""
_PATIENCE: Final = 0.05
"""Seconds that a caller waits for the next trial rather than to fail: a short loss costs nobody a call."""
_TOLERATED: Final = 2
"""Failures in a row of a server that can be reached: one slow answer says little about the next."""


class CircuitBreaker:
    """Closed = calls pass; open = they fail at once, but for one trial after each pause."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._monotonic = monotonic
        self._jitter = jitter
        self._state = threading.Condition()
        self._failures = 0
        self._open = False
        self._trying = False
        self._pause = 0.0
        self._retry_time = 0.0
        self._refusal: UnsafeStoreError | None = None

    @property
    def is_open(self) -> bool:
        return self._open

    def enter(self) -> bool:
        """Pass before a call; tells whether this call is a trial, for what it must report afterwards.

        Raises StoreUnavailableError where the server was away a moment ago, UnsafeStoreError where it was
        refused.
        """
        if not self.is_open:
            return False
        deadline = self._monotonic() + _PATIENCE
        with self._state:
            while self._open:
                left = self._retry_time - self._monotonic()
                if not self._trying and left <= 0:
                    self._trying = True
                    return True
                if self._trying or self._retry_time > deadline:
                    raise self._error()
                self._state.wait(left)
            return False

    def require_closed(self) -> None:
        """For calls that take too long to be a trial. Raises StoreUnavailableError."""
        if self._open:
            raise self._error()

    def succeeded(self) -> None:
        """The server answered, whatever it said."""
        if self._failures == 0:
            return
        with self._state:
            self._failures, self._open, self._trying, self._pause = 0, False, False, 0.0
            self._refusal = None
            self._state.notify_all()

    def failed(self, *, trial: bool, unreachable: bool, refusal: UnsafeStoreError | None = None) -> None:
        """No answer came, or one that nothing may rest on.

        Args:
            trial: what `enter` told this call.
            unreachable: there was not even a connection.
            refusal: why the server must not be used, where it answers and is refused.
        """
        with self._state:
            self._failures += 1
            if trial:
                self._trying = False
            elif self._open or not (refusal or unreachable or self._failures > _TOLERATED):
                return
            self._open, self._refusal = True, refusal
            longest = _LONGEST_REFUSAL if refusal else _LONGEST_PAUSE
            self._pause = min(longest, self._pause * 2 or _FIRST_PAUSE)
            self._retry_time = self._monotonic() + self._pause * self._jitter(0.5, 1.0)

    def abandoned(self, *, trial: bool) -> None:
        """The call ended without having asked the server: the next caller may try."""
        if trial:
            with self._state:
                self._trying = False
                self._state.notify_all()

    def _error(self) -> StoreUnavailableError:
        """What calls fail with meanwhile."""
        refusal = self._refusal
        if refusal is not None:
            return UnsafeStoreError(str(refusal))
        return StoreUnavailableError("Redis is away; it will be tried again soon")
