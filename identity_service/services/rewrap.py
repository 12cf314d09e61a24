"""Rewrapping: encrypts the keys of the store under the current master key, after the master key was changed.

The keys themselves do not change, so all tokens stay valid. Idempotent, and safe to run at any time.
"""

from dataclasses import dataclass
from typing import Final

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.errors import NotFoundError, StaleEtagError
from identity_service.domain.keys import StoredKey
from identity_service.domain.origin import NOWHERE, Origin
from identity_service.domain.ports import AuditTrail, KeyVault, ReplicaView
from identity_service.domain.records import Versioned
from identity_service.domain.store import RecordStore, all_records

_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrapped:
    """The result of rewrapping."""

    rewrapped: int
    """The number of keys that this call encrypted under the current master key."""
    total: int
    """The number of keys in the store."""


@dataclass(frozen=True, slots=True)
class Rewrap:
    """The use case that encrypts the keys of a store under the current master key."""

    records: RecordStore
    vault: KeyVault
    replica: ReplicaView
    trail: AuditTrail

    def rewrap(self, *, origin: Origin = NOWHERE) -> Rewrapped:
        """Rewrap every key that is not encrypted under the current master key yet.

        Raises:
            ConfigurationError: none of the configured master keys opens a key.
            UnavailableError: this process's data is stale, or the store cannot be reached.
            StaleEtagError: another process changed a key at the same time in each of 8 attempts.
        """
        self.replica.require_fresh()
        done = total = 0
        for found in all_records(self.records, StoredKey):
            total += 1
            done += self._seal_anew(found, origin)
        return Rewrapped(rewrapped=done, total=total)

    def _seal_anew(self, found: Versioned[StoredKey] | None, origin: Origin) -> bool:
        for _ in range(_ATTEMPTS):
            if found is None:
                return False  # deleted meanwhile
            key = self.vault.reseal(found.record)
            if key is None:
                return False
            event = AuditEvent.of(
                AuditType.KEY_REWRAPPED, origin, target=key.key_id, purpose=key.purpose.value
            )
            try:
                appended = self.records.update(key, expected=found.revision, audit=event)
            except (StaleEtagError, NotFoundError):
                found = self.records.get(StoredKey, key.key_id)
                continue
            self.replica.learn(appended)
            self.trail.stored(event)
            return True
        raise StaleEtagError("the keys change too often; try again")
