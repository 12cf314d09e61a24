"""An event that strangers can cause as often as they like, and that is recorded once a minute at most."""

import threading
from typing import Final

from identity_service.domain.ports import Clock, EventLog

_PAUSE: Final = 60.0


class RateLimitedEvent:
    """Counts how often something happens between two records of it. Any thread may call it."""

    def __init__(self, event: str, event_log: EventLog, clock: Clock) -> None:
        self._event = event
        self._event_log = event_log
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._recorded = float("-inf")

    def happened(self) -> None:
        """Record the event, with how often it happened since the last record, or only count it."""
        now = self._clock.monotonic()
        with self._lock:
            self._count += 1
            if now - self._recorded < _PAUSE:
                return
            count, self._count, self._recorded = self._count, 0, now
        self._event_log.record(self._event, count=count)
