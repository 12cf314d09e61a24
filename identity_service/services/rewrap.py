"""Rewrapping: seals the keys of the store under the current master key, after it was changed.

What a key is, and every token, stays as it is. May be run again, by anybody, at any time.
"""

from dataclasses import dataclass
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import NotFoundError, StaleEtagError
from identity_service.domain.keys import StoredKey
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.ports import AuditTrail, KeyVault, ReplicaView
from identity_service.domain.store import Store, Versioned, all_records

_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrapped:
    """How many keys were sealed anew, of how many there are."""

    rewrapped: int
    total: int


class Rewrap:
    """The use case."""

    def __init__(self, store: Store, vault: KeyVault, replica: ReplicaView, trail: AuditTrail) -> None:
        self._store = store
        self._vault = vault
        self._replica = replica
        self._trail = trail

    def rewrap(self, *, origin: Origin = NOWHERE) -> Rewrapped:
        """Raises ConfigurationError: no master key here opens a key; UnavailableError, StaleEtagError."""
        self._replica.require_fresh()
        done = total = 0
        for found in all_records(self._store, StoredKey):
            total += 1
            done += self._seal_anew(found, origin)
        return Rewrapped(rewrapped=done, total=total)

    def _seal_anew(self, found: Versioned[StoredKey] | None, origin: Origin) -> bool:
        for _ in range(_ATTEMPTS):
            if found is None:
                return False  # forgotten meanwhile
            key = self._vault.reseal(found.record)
            if key is None:
                return False
            event = AuditEvent.of(
                AuditType.KEY_REWRAPPED, origin, target=key.key_id, purpose=key.purpose.value
            )
            try:
                appended = self._store.update(key, expected=found.revision, audit=event)
            except (StaleEtagError, NotFoundError):
                found = self._store.get(StoredKey, key.key_id)
                continue
            self._replica.learn(appended)
            self._trail.stored(event)
            return True
        raise StaleEtagError("the keys change too often; try again")
