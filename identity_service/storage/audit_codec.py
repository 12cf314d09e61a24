"""Audit events as JSON text and back: what both stores put into their audit logs.

An unknown type of event raises ValueError: a log written by a newer version is not guessed at.
"""

import json
from dataclasses import dataclass
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditOutcome, AuditType
from identity_service.storage.codec import dumps

AUDIT_ENTRIES: Final = 100_000
"""Events of each kind that are kept, unless the settings say otherwise."""
MAX_LOOKED_AT: Final = 2000
"""Events that one call of `list_audit` looks at, however few of them it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSizes:
    """How many events of each kind a store keeps."""

    changes: int = AUDIT_ENTRIES
    traffic: int = AUDIT_ENTRIES


def encode_event(event: AuditEvent) -> str:
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
