"""Key records, and the schedule that decides which key is used when.

The module contains no cryptography and no private key in the clear. A key is pending (published, not yet
signing), then signs, then only verifies, and is deleted when everything that was made with it has expired.
There is always a next key waiting, so that a key can be retired at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from identity_service.domain.ids import KeyId

_IMMINENT: Final = timedelta(minutes=1)
"""A key that activates within this time may be used by a process that has not read of its deletion."""


class KeyPurpose(StrEnum):
    """The purposes of keys; a key has one purpose."""

    SIGN = "sign"
    """Signs access tokens."""
    REFRESH = "refresh"
    """Derives refresh tokens (HMAC-SHA-256, 256 random bits)."""
    ENCRYPT = "encrypt"
    """Decrypts access tokens that were encrypted to this service."""


FIXED_ALGORITHMS: Final = {KeyPurpose.REFRESH: "HS256", KeyPurpose.ENCRYPT: "ECDH-ES+A256KW"}
"""The algorithms of keys whose purpose allows only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key as the store holds it: the public part in the clear, the rest sealed under the master key."""

    key_id: KeyId
    purpose: KeyPurpose
    algorithm: str
    """The JWS or JWE algorithm (RFC 7518), HS256 for a refresh key. Always taken from here, never from a
    token."""
    public_jwk: str | None = None
    """The public JWK as JSON (RFC 7517); None for a symmetric key, which is never published."""
    sealed: str = field(repr=False)
    """The private key as a JWE (dir, A256GCM) of its JWK."""
    create_time: datetime
    activate_time: datetime
    """The time from which the key may be the one in use."""

    @property
    def id(self) -> str:
        """Return the id of the record, which is the key id."""
        return self.key_id


class KeyState(StrEnum):
    """The states of a key."""

    PENDING = "pending"
    """The key signs nothing yet."""
    SIGNING = "signing"
    VERIFYING = "verifying"
    """The key has signed tokens that may not have expired yet."""
    REVOKED = "revoked"
    """The key was retired in an emergency: everything that was made with it is revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """The public facts about a key."""

    key_id: KeyId
    purpose: KeyPurpose
    algorithm: str
    public_jwk: str | None
    """The public JWK as JSON (RFC 7517); None for a symmetric key."""
    create_time: datetime
    activate_time: datetime
    state: KeyState
    expire_time: datetime | None = None
    """The time at which the key is deleted; None while it is in use or will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """The times that govern rotation."""

    rotate_every: timedelta
    publish_before: timedelta
    """The time for which verifiers may cache the keys; a new key is published this long before it signs."""
    lifetimes: Mapping[KeyPurpose, timedelta]
    """The longest lifetime of the tokens that are made with a key of each purpose."""

    def covering(self, lifetime: timedelta) -> "KeyPolicy":
        """Return the policy for tokens that live at least this long.

        After the configured lifetime was lowered, tokens with the longer one still exist.
        """
        tokens = (KeyPurpose.SIGN, KeyPurpose.ENCRYPT)
        longer = {purpose: max(self.lifetimes[purpose], lifetime) for purpose in tokens}
        return replace(self, lifetimes={**self.lifetimes, **longer})


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateKey:
    """A step of the plan: create a key that waits until `activate_time`."""

    purpose: KeyPurpose
    algorithm: str
    activate_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteKey:
    """A step of the plan: delete a key."""

    key: StoredKey


def key_in_use(keys: Iterable[StoredKey], purpose: KeyPurpose, now: datetime) -> StoredKey | None:
    """Return the key of this purpose that was activated last and not in the future, or None."""
    active = [k for k in keys if k.purpose is purpose and k.activate_time <= now]
    return max(active, key=_order, default=None)


class KeySchedule:
    """The keys of one purpose and their states at one moment; revoked keys are never in use."""

    def __init__(
        self, keys: Iterable[StoredKey], revoked: Iterable[KeyId], purpose: KeyPurpose, now: datetime
    ) -> None:
        every = list(keys)
        self._is_initialised = bool(every)
        self._all = sorted((k for k in every if k.purpose is purpose), key=_order)
        self._revoked = frozenset(revoked)
        self._usable = [k for k in self._all if k.key_id not in self._revoked]
        self.purpose = purpose
        self.in_use = self._choose(now)
        self.waiting = [
            k for k in self._usable if self.in_use is not None and _order(k) > _order(self.in_use)
        ]
        """The keys that come into use later, the next one first."""

    def _choose(self, now: datetime) -> StoredKey | None:
        due = key_in_use(self._all, self.purpose, now)
        if due is not None and due.key_id not in self._revoked:
            return due
        # The key that is due was retired. A waiting key is used before its time, since it has been published
        # already; never an older key, which an attacker with the retired key may have too, unless no other
        # key is left.
        later = [k for k in self._usable if due is None or _order(k) > _order(due)]
        return next(iter(later or self._usable[-1:]), None)

    def state(self, key: StoredKey) -> KeyState:
        """Return the state of a key."""
        if key.key_id in self._revoked:
            return KeyState.REVOKED
        if key == self.in_use:
            return KeyState.SIGNING
        return KeyState.PENDING if key in self.waiting else KeyState.VERIFYING

    def spare(self, needed: int, now: datetime) -> Sequence[StoredKey]:
        """Return the waiting keys after the next `needed` ones that may be deleted: none has signed yet."""
        return [key for key in self.waiting[needed:] if key.activate_time > now + _IMMINENT]

    def expire_time(self, key: StoredKey, policy: KeyPolicy) -> datetime | None:
        """Return when everything made with this key has expired; None = the key may still be used."""
        if self.in_use is None or _order(key) >= _order(self.in_use):
            return None
        successor = next(k for k in self._usable if _order(k) > _order(key))
        return successor.activate_time + policy.lifetimes[self.purpose]

    def described(self, policy: KeyPolicy) -> Sequence[PublishedKey]:
        """Return all keys with their states, the oldest first."""
        return [
            PublishedKey(
                key_id=key.key_id,
                purpose=key.purpose,
                algorithm=key.algorithm,
                public_jwk=key.public_jwk,
                create_time=key.create_time,
                activate_time=key.activate_time,
                state=self.state(key),
                expire_time=self.expire_time(key, policy),
            )
            for key in self._all
        ]

    def plan(
        self, policy: KeyPolicy, now: datetime, held: datetime | None
    ) -> Iterator[CreateKey | DeleteKey]:
        """Yield the steps after which one key is in use, one waits, and no key is kept longer than needed.

        Args:
            policy: the times that govern rotation.
            now: the wall-clock time.
            held: the wall-clock time if the clock has run without a step for 10 minutes, else None. Only this
                time deletes keys, so that a clock that is weeks ahead for a moment costs no key that is still
                needed.
        """
        if not self._all:
            # A store that has lost its keys has to be restored from a backup. A store that was initialised
            # before there was encryption has lost none, and a new encryption key makes no token invalid.
            if self._is_initialised and self.purpose is KeyPurpose.ENCRYPT:
                algorithm = FIXED_ALGORITHMS[self.purpose]
                yield CreateKey(purpose=self.purpose, algorithm=algorithm, activate_time=now)
            return
        if self.in_use is None:
            yield CreateKey(purpose=self.purpose, algorithm=self._all[-1].algorithm, activate_time=now)
            return
        if not self.waiting:
            due = max(self.in_use.activate_time + policy.rotate_every, now + policy.publish_before)
            yield CreateKey(purpose=self.purpose, algorithm=self.in_use.algorithm, activate_time=due)
        for surplus in self.spare(1, now):  # two processes have created one key each
            yield DeleteKey(key=surplus)
        for key in self._all:
            expire_time = self.expire_time(key, policy)
            if expire_time is not None and held is not None and expire_time <= held:
                yield DeleteKey(key=key)


def _order(key: StoredKey) -> tuple[datetime, str]:
    return (key.activate_time, key.key_id)
