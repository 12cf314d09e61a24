"""The codec of audit events: JSON text that both stores write to their audit logs.

An unknown type of event raises ValueError: an event that a newer version wrote is not interpreted.
"""

import json
from dataclasses import dataclass
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditOutcome, AuditType
from identity_service.storage.codec import dumps

AUDIT_ENTRIES: Final = 100_000
"""Events of each kind that are kept unless the settings say otherwise."""
MAX_LOOKED_AT: Final = 2000
"""Events that one call of `list_audit` reads at most, even if fewer of them match its filter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSizes:
    """The number of events of each kind that a store keeps."""

    changes: int = AUDIT_ENTRIES
    traffic: int = AUDIT_ENTRIES


def encode_event(event: AuditEvent) -> str:
    """Return the event as JSON text."""
    return dumps(
        {
            "type": event.type,
            "outcome": event.outcome,
            "actor": event.actor,
            "target": event.target,
            "peer": event.peer,
            "request": event.request_id,
            "reason": event.reason,
            "details": dict(event.details),
        }
    )


def decode_event(text: str) -> AuditEvent:
    """Return the event of a JSON text. Raises ValueError, KeyError or TypeError if it is unknown."""
    data = json.loads(text)
    return AuditEvent(
        type=AuditType(data["type"]),
        outcome=AuditOutcome(data["outcome"]),
        actor=data["actor"],
        target=data["target"],
        peer=data["peer"],
        request_id=data["request"],
        reason=data["reason"],
        details=data["details"],
    )
