"""Audit events: their types, and the values that describe them. The module contains no storage.

Events hold no secret.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from identity_service.domain.origin import NOWHERE, Origin

MAX_DETAIL_CHARS: Final = 512


class AuditType(StrEnum):
    """The types of audit events; docs/audit.md describes each."""

    TOKEN_ISSUED = "token_issued"  # noqa: S105  # the name of an event
    SESSION_STARTED = "session_started"
    SESSION_REFRESHED = "session_refreshed"
    TOKEN_EXCHANGED = "token_exchanged"  # noqa: S105  # the name of an event
    ISSUE_REFUSED = "issue_refused"
    REFRESH_REFUSED = "refresh_refused"
    CALL_REFUSED = "call_refused"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105  # the name of an event
    TOKEN_REVOKED = "token_revoked"  # noqa: S105  # the name of an event
    SESSION_REVOKED = "session_revoked"
    PRINCIPAL_REVOKED = "principal_revoked"
    CLIENT_CREATED = "client_created"
    CLIENT_UPDATED = "client_updated"
    CLIENT_DELETED = "client_deleted"
    CLIENT_SECRET_ROTATED = "client_secret_rotated"  # noqa: S105  # the name of an event
    USER_CREATED = "user_created"
    USER_UPDATED = "user_updated"
    USER_DELETED = "user_deleted"
    PASSWORD_SET = "password_set"  # noqa: S105  # the name of an event
    PASSWORD_REHASHED = "password_rehashed"  # noqa: S105  # the name of an event
    ISSUER_TRUSTED = "issuer_trusted"
    ISSUER_UPDATED = "issuer_updated"
    ISSUER_DISTRUSTED = "issuer_distrusted"
    KEY_CREATED = "key_created"
    KEY_ACTIVATED = "key_activated"
    KEY_REWRAPPED = "key_rewrapped"
    KEY_RETIRED = "key_retired"
    KEY_DELETED = "key_deleted"
    CLOCK_ACCEPTED = "clock_accepted"
    STORE_RESTORED = "store_restored"
    STORE_MIGRATED = "store_migrated"
    EVENTS_DROPPED = "events_dropped"

    @property
    def kind(self) -> "AuditKind":
        """Return the kind of an event of this type, and so the ring buffer that stores it."""
        return AuditKind.TRAFFIC if self in _TRAFFIC else AuditKind.CHANGE


class AuditKind(StrEnum):
    """The kinds of events. Each kind has its own ring buffer, so that neither displaces the other."""

    CHANGE = "change"
    """A change of the service's state, or the reuse of a refresh token."""
    TRAFFIC = "traffic"
    """A call that was answered or refused; callers decide how many of these there are."""


_TRAFFIC: Final = frozenset(
    {
        AuditType.TOKEN_ISSUED,
        AuditType.SESSION_REFRESHED,
        AuditType.TOKEN_EXCHANGED,
        AuditType.ISSUE_REFUSED,
        AuditType.REFRESH_REFUSED,
        AuditType.CALL_REFUSED,
        AuditType.EVENTS_DROPPED,
    }
)
_CHANGES: Final = frozenset(AuditType) - _TRAFFIC


class AuditOutcome(StrEnum):
    """The outcome of an action: it was carried out, or refused."""

    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """An audit event as it is passed to the store, which adds its id and time."""

    type: AuditType
    outcome: AuditOutcome = AuditOutcome.DONE
    actor: str = ""
    target: str = ""
    peer: str = ""
    request_id: str = ""
    reason: str = ""
    details: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        type_: AuditType,
        origin: Origin = NOWHERE,
        *,
        target: str = "",
        actor: str | None = None,
        outcome: AuditOutcome = AuditOutcome.DONE,
        reason: str = "",
        **details: object,
    ) -> "AuditEvent":
        """Return the event of a call; details that are None are left out.

        The actor is the one of `origin`, unless `actor` is given. Target, reason and each detail are cut
        after 512 characters.
        """
        return cls(
            type=type_,
            outcome=outcome,
            actor=actor if actor is not None else origin.actor or "",
            target=target[:MAX_DETAIL_CHARS],
            peer=origin.peer,
            request_id=origin.request_id,
            reason=reason[:MAX_DETAIL_CHARS],
            details={n: _text(v)[:MAX_DETAIL_CHARS] for n, v in details.items() if v is not None},
        )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An audit event as the store holds it."""

    event_id: str
    """The id of the event; opaque, and greater than the id of every earlier event of either kind."""
    time: datetime
    """The time of the event by the store's clock."""
    event: AuditEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """A filter of audit events: all conditions must hold; an empty condition always holds."""

    principal: str = ""
    """The principal that is the actor, the target, or the detail `subject` or `client_id`."""
    types: Sequence[str] = ()
    start_time: datetime | None = None
    end_time: datetime | None = None

    @property
    def is_about_changes(self) -> bool:
        """Return whether only events of changes can match, so that the other ring buffer need not be read."""
        return bool(self.types) and _CHANGES.issuperset(self.types)

    def accepts(self, stored: StoredEvent) -> bool:
        """Return whether an event fulfils all conditions; `end_time` is exclusive."""
        event = stored.event
        named = (event.actor, event.target, event.details.get("subject"), event.details.get("client_id"))
        return (
            (not self.principal or self.principal in named)
            and (not self.types or event.type in self.types)
            and (self.start_time is None or stored.time >= self.start_time)
            and (self.end_time is None or stored.time < self.end_time)
        )


AUDIT_ENTRIES: Final = 100_000
"""The number of events of each kind that a store keeps unless the settings say otherwise."""
MAX_LOOKED_AT: Final = 2000
"""The largest number of events that one call of `AuditStore.list_newest` reads, even if fewer of them match
its filter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSizes:
    """The number of events of each kind that a store keeps."""

    changes: int = AUDIT_ENTRIES
    traffic: int = AUDIT_ENTRIES
