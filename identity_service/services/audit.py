"""The audit trail: logs audit events, and stores those that are not written together with a change.

Both classes implement the port AuditTrail. A caller that records an event never waits for the store.
"""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditKind, AuditOutcome, AuditType
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import IdentityError, UnavailableError
from identity_service.domain.origin import Origin
from identity_service.domain.ports import AuditTrail, Clock, EventLog
from identity_service.domain.store import AuditStore
from identity_service.services.folding import DONE_KEYS, Folding, FoldRule
from identity_service.telemetry.counters import Counter

_BATCH: Final = 500
"""The number of events in one write to the store."""
_COLLECT: Final = 0.05
"""The number of seconds that the first event of a batch waits for others, to save writes."""
_FIRST_PAUSE: Final = 0.1
"""Seconds before a failed write is repeated; doubled after each failure."""
_LONGEST_PAUSE: Final = 5.0
_REFUSALS: Final = (AuditType.ISSUE_REFUSED, AuditType.REFRESH_REFUSED, AuditType.CALL_REFUSED)
"""The types whose reason is that of an error; other reasons are a caller's text, and too many to count by."""
_LOOK_EVERY: Final = 1.0
"""Seconds between two checks for windows that have ended, while events are being folded."""


class LoggedTrail:
    """An audit trail that only logs events, for commands that end before an event could be stored."""

    def __init__(self, event_log: EventLog) -> None:
        self._event_log = event_log

    def record(self, event: AuditEvent) -> None:
        """Log an event that records no change."""
        self.stored(event)

    def stored(self, event: AuditEvent) -> None:
        """Log an event, such as one that the store has written together with its change."""
        fields: dict[str, str] = {**event.details, "outcome": event.outcome.value}
        if event.actor:
            fields["actor"] = event.actor
        if event.target:
            fields["target"] = event.target
        if event.peer:
            fields["peer"] = event.peer
        if event.reason:
            fields["reason"] = event.reason
        self._event_log.record(event.type.value, **fields)


class StoredTrail(LoggedTrail):
    """The audit trail of a serving process: folds events (see `folding.py`), logs them, and stores them.

    Events for the store wait in a bounded queue. One thread runs `run`, which stores them in batches and
    writes the summaries of folded events.
    """

    def __init__(
        self,
        store: AuditStore,
        event_log: EventLog,
        clock: Clock,
        *,
        queue: int,
        burst: int,
        store_traffic: bool,
    ) -> None:
        """Create a trail without events.

        Args:
            store: stores the events.
            event_log: receives each event that is not folded.
            clock: measures the windows of folding.
            queue: the number of events that may wait while the store is slow or unreachable; further ones are
                dropped.
            burst: the number of successful calls of one address and type that are recorded one by one in each
                window.
            store_traffic: whether events of kind TRAFFIC are stored; if not, they are only logged.
        """
        super().__init__(event_log)
        self._store = store
        self._limit = queue
        self._store_traffic = store_traffic
        self._folding = Folding(clock, done=FoldRule(whole=burst, keys=DONE_KEYS))
        self._has_folded = False
        """True if events were folded, so that `run` has to check for windows that have ended."""
        self._events: deque[AuditEvent] = deque()
        self._changed = threading.Condition()
        self.dropped = 0
        """The number of events that found the queue full since this process began."""
        self._unreported = 0
        """The number of dropped events that no EVENTS_DROPPED event has reported yet."""
        self.folded = 0
        """The number of events that were counted instead of written since this process began."""
        self._counts: dict[tuple[AuditType, str], Counter] = {}
        self._ended = False
        """True once `run` has ended, so that nothing stores further events."""

    @property
    def counts(self) -> Mapping[tuple[AuditType, str], int]:
        """Return the number of events, folded ones too, by type and, for refusals, reason."""
        return {key: counter.value for key, counter in self._counts.copy().items()}

    def stored(self, event: AuditEvent) -> None:
        """Count and log an event that the store has written together with its change."""
        self._count(event)
        super().stored(event)

    def _count(self, event: AuditEvent) -> None:
        key = (event.type, event.reason if event.type in _REFUSALS else "")
        counter = self._counts.get(key) or self._counts.setdefault(key, Counter())
        counter.increment()

    def record(self, event: AuditEvent) -> None:
        """Fold an event that records no change, or log it and queue it for the store."""
        self._count(event)
        with self._changed:
            if not self._folding.admit(event):
                self.folded += 1
                if not self._has_folded:
                    self._has_folded = True
                    self._changed.notify()
                return
            self._queue(event)
        super().stored(event)

    def _queue(self, event: AuditEvent) -> None:
        """Queue an event if its kind is stored; drop it if the queue is full. The caller holds the lock."""
        if event.type.kind is AuditKind.TRAFFIC and not self._store_traffic:
            return
        if len(self._events) < self._limit and not self._ended:
            self._events.append(event)
            if len(self._events) == 1:
                self._changed.notify()
        else:
            self.dropped += 1
            self._unreported += 1

    def run(self, stopping: threading.Event) -> None:
        """Store events until `stopping` is set and `wake` called.

        Then write the summaries of folded events and store the waiting ones, until the store is unreachable.
        """
        pause = _FIRST_PAUSE
        while True:
            is_last = self._wait(stopping)
            self._write_folded(everything=is_last)
            batch = self._take()
            if not batch:
                if is_last:
                    break
                continue
            try:
                self._store.append(batch)
            except UnavailableError:
                self._requeue(batch)
                if stopping.wait(pause):
                    break
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE
                if batch[-1].type is AuditType.EVENTS_DROPPED:
                    super().stored(batch[-1])
        self._ended = True

    def wake(self) -> None:
        """End the wait of `run`, so that it notices that it has to end."""
        with self._changed:
            self._changed.notify_all()

    def _wait(self, stopping: threading.Event) -> bool:
        """Wait until events have to be written; return True if the thread has to end afterwards."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or stopping.is_set() or self._has_folded)
            self._changed.wait_for(lambda: self._events or stopping.is_set(), _LOOK_EVERY)
            has_events = bool(self._events)
        if has_events:
            stopping.wait(_COLLECT)
        return stopping.is_set()

    def _write_folded(self, *, everything: bool) -> None:
        with self._changed:
            events: Sequence[AuditEvent] = self._folding.summaries(everything=everything)
            for event in events:
                self._queue(event)
            self._has_folded = self._folding.has_folded
        for event in events:
            super().stored(event)

    def _take(self) -> list[AuditEvent]:
        """Return the next batch, which may be empty; its last event says how many were dropped, if any."""
        with self._changed:
            batch = [self._events.popleft() for _ in range(min(_BATCH, len(self._events)))]
            if batch and (dropped := self._unreported):
                self._unreported = 0
                batch.append(AuditEvent.of(AuditType.EVENTS_DROPPED, count=dropped))
            return batch

    def _requeue(self, batch: list[AuditEvent]) -> None:
        with self._changed:
            for event in reversed(batch):
                if event.type is AuditType.EVENTS_DROPPED:
                    self._unreported += int(event.details["count"])
                else:
                    self._events.appendleft(event)


def record_refusal(
    trail: AuditTrail, type_: AuditType, error: IdentityError, origin: Origin, *, target: str = ""
) -> None:
    """Record that a call was refused, with a more detailed reason than the caller is given."""
    refused = error if isinstance(error, CredentialRefusedError) else None
    trail.record(
        AuditEvent.of(
            type_,
            origin,
            outcome=AuditOutcome.REFUSED,
            target=refused.principal if refused is not None else target,
            reason=error.reason,
            why=refused.why or None if refused is not None else str(error),
            **(refused.details if refused is not None else {}),
        )
    )
