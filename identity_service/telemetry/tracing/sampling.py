"""The decision whether a call is recorded: by its caller if that has made one, else by chance.

Any caller can ask for a recording, since `traceparent` proves nothing. Recording takes time of this process
and room of the collector, so both kinds of calls have a budget of their own: callers that ask for every call
use up theirs, and the share that the operator has chosen is recorded all the same.
"""

import random
import threading
from collections.abc import Callable

from identity_service.telemetry.call_ids import TraceContext


class Budget:
    """A token bucket: `take` succeeds so many times in a second. Any thread may call it."""

    def __init__(self, per_second: int, monotonic: Callable[[], float]) -> None:
        self._most = self._left = float(per_second)
        self._monotonic = monotonic
        self._time = monotonic()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Return whether there is something left, and take it."""
        with self._lock:
            now = self._monotonic()
            self._left = min(self._most, self._left + (now - self._time) * self._most)
            self._time = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


class Sampling:
    """Decides for each call whether it is recorded."""

    def __init__(self, ratio: float, per_second: int, monotonic: Callable[[], float]) -> None:
        """Record a share of the calls whose callers send no trace, and those whose callers record theirs.

        Args:
            ratio: the share, from 0 to 1.
            per_second: the most calls of each of the two kinds that are recorded in a second.
            monotonic: a clock that is never set.
        """
        self._ratio = ratio
        self._asked, self._drawn = Budget(per_second, monotonic), Budget(per_second, monotonic)

    def is_recorded(self, context: TraceContext | None) -> bool:
        """Return whether to record a call whose caller sent this context; None = it sent none."""
        if context is not None:
            return context.is_sampled and self._asked.take()
        # Not by the trace id, as other samplers do: callers could choose it.
        return random.random() < self._ratio and self._drawn.take()  # noqa: S311  # no secret
