"""Constructs the use cases that change clients, users and trusted issuers. Holds no logic of its own."""

from collections.abc import Callable
from dataclasses import dataclass

from identity_service.domain.ports import AuditTrail, Clock, PasswordHasher, PublicKeyChecker, ReplicaView
from identity_service.domain.secret import Secret
from identity_service.domain.store import Store
from identity_service.services.admin.clients import Clients
from identity_service.services.admin.issuers import TrustedIssuers
from identity_service.services.admin.records import Records
from identity_service.services.admin.users import NewUser, Users

__all__ = ["Administration", "AdministrationParts", "NewUser"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdministrationParts:
    """The collaborators of the use cases of administration."""

    store: Store
    clock: Clock
    trail: AuditTrail
    hasher: PasswordHasher
    is_common: Callable[[Secret], bool]
    """Returns whether a password is one of those that attackers try first."""
    keys: PublicKeyChecker
    issuer: str
    """The `iss` of this service's own tokens."""
    replica: ReplicaView | None = None
    """The replica of a serving process; None = the caller is a command that has no replica."""


class Administration:
    """The use cases that change clients, users and trusted issuers."""

    def __init__(self, parts: AdministrationParts) -> None:
        store, clock, keys = parts.store, parts.clock, parts.keys
        records = Records(store, parts.trail, parts.replica)
        self.clients = Clients(store, records, keys, clock)
        self.users = Users(store, records, parts.hasher, parts.is_common, clock)
        self.issuers = TrustedIssuers(store, records, keys, clock, own=parts.issuer)
