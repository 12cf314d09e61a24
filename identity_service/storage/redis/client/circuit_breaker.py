"""A circuit breaker: while a server is unavailable, calls fail at once, except one trial at a time.

This module owns the pauses between the trials. It does not know which calls are made, nor why they failed.
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
"""The longest pause, in seconds, for a server that answers but is refused because of its configuration: it is
checked again soon, so that a corrected configuration takes effect."""
_MAX_WAIT: Final = 0.05
"""The number of seconds that a caller waits for the next trial instead of failing: after a short outage no
call fails."""
_TOLERATED_FAILURES: Final = 2
"""The number of consecutive failures of a reachable server that leave the circuit closed: one slow answer
says little about the next."""


class CircuitBreaker:
    """The circuit of one server. Thread-safe.

    Closed: calls pass. Open: calls fail at once, except one trial after each pause. The pauses double from
    0.05 s to at most 1 s (0.5 s for a refused server), and each is shortened at random by up to half.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._monotonic = monotonic
        self._jitter = jitter
        self._state = threading.Condition()
        self.failures = 0
        """The number of failures since the last success."""
        self.is_open = False
        """True if calls fail at once, except the trials."""
        self._trying = False
        self._pause = 0.0
        self._retry_time = 0.0
        self._refusal: UnsafeStoreError | None = None

    def enter(self) -> bool:
        """Permit a call of an open circuit; return whether it is a trial, or False if the circuit has closed.

        The caller repeats that when it reports the outcome.

        Raises StoreUnavailableError if the circuit is open and another caller's trial is in progress or none
        is due within 0.05 s; it is the subclass UnsafeStoreError if the server was refused.
        """
        deadline = self._monotonic() + _MAX_WAIT
        with self._state:
            while self.is_open:
                left = self._retry_time - self._monotonic()
                if not self._trying and left <= 0:
                    self._trying = True
                    return True
                if self._trying or self._retry_time > deadline:
                    raise self._error()
                self._state.wait(left)
            return False

    def require_closed(self) -> None:
        """Raise StoreUnavailableError if the circuit is open: for calls that must not be the trial."""
        if self.is_open:
            raise self._error()

    def succeeded(self) -> None:
        """Close the circuit: the server has answered, possibly with an error."""
        with self._state:
            self.failures, self.is_open, self._trying, self._pause = 0, False, False, 0.0
            self._refusal = None
            self._state.notify_all()

    def failed(self, *, trial: bool, unreachable: bool, refusal: UnsafeStoreError | None = None) -> None:
        """Record a failure: no answer came, or the server was refused.

        A failed trial, an unreachable server and a refusal open the circuit at once, other failures only
        after more than two in a row.

        Args:
            trial: the value that `enter` returned to this call.
            unreachable: whether not even a connection could be opened.
            refusal: why the server must not be used, if it answers but is refused.
        """
        with self._state:
            self.failures += 1
            if trial:
                self._trying = False
            elif self.is_open or not (refusal or unreachable or self.failures > _TOLERATED_FAILURES):
                return
            self.is_open, self._refusal = True, refusal
            longest = _LONGEST_REFUSAL if refusal else _LONGEST_PAUSE
            self._pause = min(longest, self._pause * 2 or _FIRST_PAUSE)
            self._retry_time = self._monotonic() + self._pause * self._jitter(0.5, 1.0)

    def abandoned(self, *, trial: bool) -> None:
        """Record that the call ended without an outcome: if it was the trial, the next caller may try."""
        if trial:
            with self._state:
                self._trying = False
                self._state.notify_all()

    def _error(self) -> StoreUnavailableError:
        """Return the error with which calls fail while the circuit is open."""
        refusal = self._refusal
        if refusal is not None:
            return UnsafeStoreError(str(refusal))
        return StoreUnavailableError("Redis cannot be reached; the next attempt follows soon")
