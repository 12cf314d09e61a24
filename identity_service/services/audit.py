"""The audit trail: every event into the log, and into the store; in batches where no change carries it.

Both classes implement the port AuditTrail. Nobody who records an event waits for the store.
"""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditOutcome, AuditType
from identity_service.domain.errors import CredentialRefusedError, IdentityError, UnavailableError
from identity_service.domain.origin import Origin
from identity_service.domain.ports import AuditTrail, Journal
from identity_service.domain.store import Store

_BATCH: Final = 500
_COLLECT: Final = 0.05
"""Seconds that the first event of a batch waits for others: a call for each would cost more."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


class LoggedTrail:
    """Events go to the log alone, where nothing runs that could store them later."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def record(self, event: AuditEvent) -> None:
        self._log(event)

    def stored(self, event: AuditEvent) -> None:
        self._log(event)

    def _log(self, event: AuditEvent) -> None:
        fields: dict[str, str] = {**event.details, "outcome": event.outcome.value}
        if event.actor:
            fields["actor"] = event.actor
        if event.target:
            fields["target"] = event.target
        if event.peer:
            fields["peer"] = event.peer
        if event.reason:
            fields["reason"] = event.reason
        self._journal.record(event.type.value, **fields)


@dataclass(slots=True)
class _Counts:
    dropped: int = 0
    """In all."""
    unsaid: int = 0
    """Dropped since an event last said so."""


class StoredTrail(LoggedTrail):
    """Events that no change carries wait in a bounded queue; one thread stores them in batches."""

    def __init__(self, store: Store, journal: Journal, *, queue: int) -> None:
        """`queue` = how many events may wait while the store is slow or away."""
        super().__init__(journal)
        self._store = store
        self._limit = queue
        self._events: deque[AuditEvent] = deque()
        self._changed = threading.Condition()
        self._counts = _Counts()
        self._closing = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="identity-audit", daemon=True)

    @property
    def dropped(self) -> int:
        """How many events found the queue full since this process began."""
        return self._counts.dropped

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout: float = 2.0) -> None:
        """Store what still waits, for at most `timeout` seconds."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._stopped.set()

    def record(self, event: AuditEvent) -> None:
        super().record(event)
        with self._changed:
            if len(self._events) < self._limit and not self._stopped.is_set():
                self._events.append(event)
                if len(self._events) == 1:
                    self._changed.notify()
            else:
                self._counts.dropped += 1
                self._counts.unsaid += 1

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while batch := self._take():
            try:
                self._store.append_audit(batch)
            except UnavailableError:
                self._put_back(batch)
                if self._closing.wait(pause):
                    return
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE

    def _take(self) -> list[AuditEvent]:
        """The next batch, once there is one; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._closing.is_set())
        self._closing.wait(_COLLECT)
        with self._changed:
            batch = [self._events.popleft() for _ in range(min(_BATCH, len(self._events)))]
            if batch and (unsaid := self._counts.unsaid):
                self._counts.unsaid = 0
                batch.append(AuditEvent.of(AuditType.EVENTS_DROPPED, count=unsaid))
            return batch

    def _put_back(self, batch: list[AuditEvent]) -> None:
        with self._changed:
            for event in reversed(batch):
                if event.type is AuditType.EVENTS_DROPPED:
                    self._counts.unsaid += int(event.details["count"])
                else:
                    self._events.appendleft(event)


def record_refusal(
    trail: AuditTrail, type_: AuditType, error: IdentityError, origin: Origin, *, target: str = ""
) -> None:
    """Record that a call was refused, and why: for the operator in more words than for the caller."""
    refused = error if isinstance(error, CredentialRefusedError) else None
    trail.record(
        AuditEvent.of(
            type_,
            origin,
            outcome=AuditOutcome.REFUSED,
            target=refused.account if refused is not None else target,
            reason=error.reason,
            why=refused.why or None if refused is not None else str(error),
        )
    )
