"""An event that may happen as often as a client or another server likes, recorded at most once a minute."""

import threading
from typing import Final

from identity_service.domain.ports import Clock, EventLog

_PAUSE: Final = 60.0
"""Seconds between two records."""


class RateLimitedEvent:
    """A counter that records an event at most once a minute. Any thread may call it."""

    def __init__(self, event: str, event_log: EventLog, clock: Clock, **fields: object) -> None:
        """Record this event with these fields, and `count`."""
        self._event = event
        self._fields = fields
        self._event_log = event_log
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._recorded = float("-inf")

    def happened(self) -> None:
        """Count the event; if the last record is a minute old, record it with the count since then."""
        now = self._clock.monotonic()
        with self._lock:
            self._count += 1
            if now - self._recorded < _PAUSE:
                return
            count, self._count, self._recorded = self._count, 0, now
        self._event_log.record(self._event, **self._fields, count=count)
