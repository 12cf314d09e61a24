"""The key ring: the keys of the store, opened and held in memory. Knows no cryptography itself.

Which key signs is asked of the schedule on every use; its answer is kept for as long as it cannot change.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from identity_service.domain.errors import ConfigurationError, NoSigningKeyError
from identity_service.domain.ids import KeyId, key_principal
from identity_service.domain.keys import KeyPolicy, KeyPurpose, KeySchedule, KeyState, PublishedKey, StoredKey
from identity_service.domain.log import RecordChanged, RecordKind
from identity_service.domain.ports import (
    Clock,
    DecryptingKey,
    EncryptingKey,
    KeyVault,
    SigningKey,
    VerifyingKey,
)
from identity_service.domain.revocations import Revocations
from identity_service.domain.store import Store, all_records

_NO_KEY = "the store holds no key that is in use; restore it from a backup or run `identity init`"


_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """Which key is in use, and for how long that is so."""

    key: StoredKey | None
    since: datetime
    until: datetime
    """When the next key is due."""
    raised: int
    """How many principals had ever been raised: a retired key is one of them, and none is ever forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """One consistent set of keys; replaced as a whole, so that readers need no lock."""

    stored: Mapping[KeyId, StoredKey] = field(default_factory=dict)
    signing: Mapping[str, SigningKey] = field(default_factory=dict)
    verifying: Mapping[str, VerifyingKey] = field(default_factory=dict)
    refresh: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    encrypting: Mapping[str, EncryptingKey] = field(default_factory=dict)
    decrypting: Mapping[str, DecryptingKey] = field(default_factory=dict)
    choices: dict[KeyPurpose, _Choice] = field(default_factory=dict)


class KeyRing:
    """Implements the port KeySource."""

    def __init__(
        self, store: Store, vault: KeyVault, clock: Clock, revocations: Revocations, policy: KeyPolicy
    ) -> None:
        """`revocations` = of the replica: they say which keys were retired."""
        self._store = store
        self._vault = vault
        self._clock = clock
        self._revocations = revocations
        self._policy = policy
        self._keys = _Opened()
        self._loading = threading.Lock()

    def signing(self) -> SigningKey:
        keys = self._keys
        stored = self._in_use(keys, KeyPurpose.SIGN)
        if stored is None:
            raise NoSigningKeyError(_NO_KEY)
        return keys.signing[stored.key_id]

    def verifying(self, key_id: str) -> VerifyingKey | None:
        return self._keys.verifying.get(key_id)

    def encrypting(self) -> EncryptingKey:
        keys = self._keys
        stored = self._in_use(keys, KeyPurpose.ENCRYPT)
        if stored is None:
            raise NoSigningKeyError("the store holds no key to encrypt with; restore it from a backup")
        return keys.encrypting[stored.key_id]

    def decrypting(self, key_id: str) -> DecryptingKey | None:
        return None if self._is_revoked(KeyId(key_id)) else self._keys.decrypting.get(key_id)

    def refresh_key(self, key_id: KeyId) -> bytes | None:
        """The refresh key of this id, or None where there is none or it was retired."""
        return None if self._is_revoked(key_id) else self._keys.refresh.get(key_id)

    def current_refresh_key(self) -> KeyId:
        """The id of the refresh key that derives new tokens. Raises NoSigningKeyError."""
        stored = self._in_use(self._keys, KeyPurpose.REFRESH)
        if stored is None:
            raise NoSigningKeyError(_NO_KEY)
        return stored.key_id

    def published(self) -> Sequence[PublishedKey]:
        """The public keys with what they are for now; HS256 keys and retired ones are never among them."""
        signing = self._schedule(self._keys, KeyPurpose.SIGN).described(self._policy)
        return [k for k in signing if k.public_jwk is not None and k.state is not KeyState.REVOKED]

    def listed(self) -> Sequence[PublishedKey]:
        """The keys of every purpose, also those that are not published."""
        keys = self._keys
        return [
            key for purpose in KeyPurpose for key in self._schedule(keys, purpose).described(self._policy)
        ]

    def _in_use(self, keys: _Opened, purpose: KeyPurpose) -> StoredKey | None:
        now, raised = self._clock.now(), len(self._revocations.generations)
        choice = keys.choices.get(purpose)
        if choice is None or choice.raised != raised or not choice.since <= now < choice.until:
            due = (k.activate_time for k in keys.stored.values() if k.purpose is purpose)
            choice = keys.choices[purpose] = _Choice(
                key=self._schedule(keys, purpose, now).in_use,
                since=now,
                until=min((time for time in due if time > now), default=_END_OF_TIME),
                raised=raised,
            )
        return choice.key

    def _schedule(self, keys: _Opened, purpose: KeyPurpose, now: datetime | None = None) -> KeySchedule:
        revoked = [key_id for key_id in keys.stored if self._is_revoked(key_id)]
        return KeySchedule(keys.stored.values(), revoked, purpose, now or self._clock.now())

    def _is_revoked(self, key_id: KeyId) -> bool:
        return key_principal(key_id) in self._revocations.generations

    def on_change(self, change: RecordChanged | None) -> None:
        """Read the keys again when one of them, or everything, may have changed.

        Raises what `load` does; NoSigningKeyError where a process that serves cannot open a new key: with
        fewer keys than the others it would refuse good tokens, so it waits, and is stale before long.
        """
        if change is not None and change.kind is not RecordKind.KEY:
            return
        try:
            self.load()
        except ConfigurationError as error:
            if not self._keys.stored:
                raise
            raise NoSigningKeyError(str(error)) from error

    def load(self) -> None:
        """Read and open the keys of the store.

        Raises StoreUnavailableError, ConfigurationError; NoSigningKeyError where the store has lost its
        keys: those that are held stay, so that they can still be published.
        """
        # One at a time: who reads first and is held up must not put older keys in the place of newer ones.
        with self._loading:
            stored = {found.record.key_id: found.record for found in all_records(self._store, StoredKey)}
            known, vault = self._keys, self._vault
            sign = {i: k for i, k in stored.items() if k.purpose is KeyPurpose.SIGN}
            if not sign:
                raise NoSigningKeyError(_NO_KEY)
            refresh = {i: k for i, k in stored.items() if k.purpose is KeyPurpose.REFRESH}
            encrypt = {i: k for i, k in stored.items() if k.purpose is KeyPurpose.ENCRYPT}
            self._keys = _Opened(
                stored=stored,
                signing={i: known.signing.get(i) or vault.open_signing(k) for i, k in sign.items()},
                verifying={i: known.verifying.get(i) or vault.open_verifying(k) for i, k in sign.items()},
                refresh={i: known.refresh.get(i) or vault.open_refresh(k) for i, k in refresh.items()},
                encrypting={
                    i: known.encrypting.get(i) or vault.open_encrypting(k) for i, k in encrypt.items()
                },
                decrypting={
                    i: known.decrypting.get(i) or vault.open_decrypting(k) for i, k in encrypt.items()
                },
            )
