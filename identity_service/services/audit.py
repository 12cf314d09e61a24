"""The audit trail: every event into the log, and into the store, in batches where no change carries it.

Implements the port AuditTrail.
"""

from identity_service.domain.audit import AuditEvent
from identity_service.domain.ports import Journal


class LoggedTrail:
    """Events go to the log alone: where there is no store to keep them, or another carries them."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def record(self, event: AuditEvent) -> None:
        self._log(event)

    def stored(self, event: AuditEvent) -> None:
        self._log(event)

    def _log(self, event: AuditEvent) -> None:
        fields = {
            "outcome": event.outcome.value,
            "actor": event.actor,
            "target": event.target,
            "peer": event.peer,
            "reason": event.reason,
        }
        said = {name: value for name, value in fields.items() if value}
        self._journal.record(event.type.value, **{**event.details, **said})
