"""The key ring: the keys of the store, unsealed and held in memory, and the JWK set of the public ones.

The module knows no cryptography itself. The schedule decides which key is in use; its decision is cached
until the next key is due or a generation is raised.
"""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from identity_service.domain.errors import ConfigurationError, NoSigningKeyError
from identity_service.domain.ids import KeyId, base64url, key_principal
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
from identity_service.domain.store import RecordStore, all_records

_NO_KEY = "the store holds no key that is in use; restore it from a backup or run `identity init`"
_NO_ENCRYPTING_KEY = "the store holds no key to encrypt with; restore it from a backup"
_LONGEST_MAX_AGE: Final = timedelta(minutes=20)
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """The key in use for one purpose, and the interval in which that holds."""

    key: StoredKey | None
    since: datetime
    until: datetime
    """The time at which the next key is due."""
    raised: int
    """The number of principals with a raised generation; retiring a key raises one, and so changes this
    number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A consistent set of unsealed keys, replaced as a whole so that readers need no lock."""

    stored: Mapping[KeyId, StoredKey] = field(default_factory=dict)
    signing: Mapping[str, SigningKey] = field(default_factory=dict)
    refresh: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    encrypting: Mapping[str, EncryptingKey] = field(default_factory=dict)
    decrypting: Mapping[str, DecryptingKey] = field(default_factory=dict)
    choices: dict[KeyPurpose, _Choice] = field(default_factory=dict)


class KeyRing:
    """The keys of a store in memory. Implements the port KeySource."""

    def __init__(
        self, records: RecordStore, vault: KeyVault, clock: Clock, revocations: Revocations, policy: KeyPolicy
    ) -> None:
        """Hold the keys of this store; none are held until `load` is called.

        `revocations` are those of the replica, which say which keys were retired.
        """
        self._records = records
        self._vault = vault
        self._clock = clock
        self._revocations = revocations
        self._policy = policy
        self._keys = _Opened()
        self.verifying: Mapping[str, VerifyingKey] = {}
        """The keys that verify tokens, by their ids; replaced as a whole. Verify looks here on every call."""
        self._loading = threading.Lock()

    def signing(self) -> SigningKey:
        """Return the signing key in use. Raises NoSigningKeyError."""
        keys = self._keys
        return keys.signing[self._in_use(keys, KeyPurpose.SIGN).key_id]

    def encrypting(self) -> EncryptingKey:
        """Return the key in use to encrypt tokens to this service. Raises NoSigningKeyError."""
        keys = self._keys
        return keys.encrypting[self._in_use(keys, KeyPurpose.ENCRYPT).key_id]

    def decrypting(self, key_id: str) -> DecryptingKey | None:
        """Return the key of this id that decrypts tokens, or None if there is none or it was retired."""
        return None if self._is_revoked(KeyId(key_id)) else self._keys.decrypting.get(key_id)

    def refresh_key(self, key_id: KeyId) -> bytes | None:
        """Return the refresh key of this id, or None if there is none or it was retired."""
        return None if self._is_revoked(key_id) else self._keys.refresh.get(key_id)

    def current_refresh_key(self) -> KeyId:
        """Return the id of the refresh key that derives new tokens. Raises NoSigningKeyError."""
        return self._in_use(self._keys, KeyPurpose.REFRESH).key_id

    def refresh_keys(self) -> Sequence[bytes]:
        """Return the refresh keys that were not retired, the one in use first. Raises NoSigningKeyError."""
        keys = self._keys
        first = self._in_use(keys, KeyPurpose.REFRESH).key_id
        others = (i for i in keys.refresh if i != first and not self._is_revoked(KeyId(i)))
        return [keys.refresh[key_id] for key_id in (first, *others)]

    def published(self) -> Sequence[PublishedKey]:
        """Return the public signing keys and their states, without HS256 keys and retired keys."""
        signing = self._schedule(self._keys, KeyPurpose.SIGN).described(self._policy)
        return [k for k in signing if k.public_jwk is not None and k.state is not KeyState.REVOKED]

    def listed(self) -> Sequence[PublishedKey]:
        """Return the keys of every purpose, including those that are not published."""
        keys = self._keys
        return [
            key for purpose in KeyPurpose for key in self._schedule(keys, purpose).described(self._policy)
        ]

    def _in_use(self, keys: _Opened, purpose: KeyPurpose) -> StoredKey:
        """Return the key in use for a purpose. Raises NoSigningKeyError."""
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
        if choice.key is None:
            raise NoSigningKeyError(_NO_ENCRYPTING_KEY if purpose is KeyPurpose.ENCRYPT else _NO_KEY)
        return choice.key

    def _schedule(self, keys: _Opened, purpose: KeyPurpose, now: datetime | None = None) -> KeySchedule:
        revoked = [key_id for key_id in keys.stored if self._is_revoked(key_id)]
        return KeySchedule(keys.stored.values(), revoked, purpose, now or self._clock.now())

    def _is_revoked(self, key_id: KeyId) -> bool:
        return key_principal(key_id) in self._revocations.generations

    def on_records_changed(self, changes: Sequence[RecordChanged] | None) -> None:
        """Read the keys again if one of them may have changed (None = anything may have).

        Raises the errors of `load`, but NoSigningKeyError instead of ConfigurationError if keys are held
        already. The changes are then not applied, and the process becomes stale and refuses to answer: with
        fewer keys than the other processes, it would reject valid tokens.
        """
        if changes is not None and all(change.kind is not RecordKind.KEY for change in changes):
            return
        try:
            self.load()
        except ConfigurationError as error:
            if not self._keys.stored:
                raise
            raise NoSigningKeyError(str(error)) from error

    def load(self) -> None:
        """Read and unseal the keys of the store.

        Raises:
            StoreUnavailableError: the store cannot be reached.
            ConfigurationError: the master key does not open a key.
            NoSigningKeyError: the store has lost its signing keys. The keys held before stay, so that they
                can still be published.
        """
        # One load at a time: a thread that is held up must not replace newer keys by the older ones it read.
        with self._loading:
            stored = {found.record.key_id: found.record for found in all_records(self._records, StoredKey)}
            known, vault = self._keys, self._vault
            sign = {i: k for i, k in stored.items() if k.purpose is KeyPurpose.SIGN}
            if not sign:
                raise NoSigningKeyError(_NO_KEY)
            refresh = {i: k for i, k in stored.items() if k.purpose is KeyPurpose.REFRESH}
            encrypt = {i: k for i, k in stored.items() if k.purpose is KeyPurpose.ENCRYPT}
            opened = _Opened(
                stored=stored,
                signing={i: known.signing.get(i) or vault.open_signing(k) for i, k in sign.items()},
                refresh={i: known.refresh.get(i) or vault.open_refresh(k) for i, k in refresh.items()},
                encrypting={
                    i: known.encrypting.get(i) or vault.open_encrypting(k) for i, k in encrypt.items()
                },
                decrypting={
                    i: known.decrypting.get(i) or vault.open_decrypting(k) for i, k in encrypt.items()
                },
            )
            # In this order, so that no key signs before it verifies.
            self.verifying = {i: self.verifying.get(i) or vault.open_verifying(k) for i, k in sign.items()}
            self._keys = opened


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySetDocument:
    """A JWK set as text."""

    jwks: str
    etag: str
    """Depends on the keys only, not on their states."""


def key_set_document(keys: Sequence[PublishedKey]) -> KeySetDocument:
    """Return the JWK set of these keys, in this order; a key without a public part is left out."""
    jwks = json.dumps({"keys": [json.loads(key.public_jwk) for key in keys if key.public_jwk is not None]})
    return KeySetDocument(jwks=jwks, etag=base64url(hashlib.sha256(jwks.encode()).digest()[:16]))


def max_age(publish_before: timedelta) -> timedelta:
    """Return the time for which clients may cache the keys: a third of `publish_before`, at most 20 minutes.

    A cached copy then contains a key well before that key signs.
    """
    return min(publish_before / 3, _LONGEST_MAX_AGE)
