"""Keys as records, and which of them is used when. Owns no cryptography and no secret in the clear.

A key is pending (published, signs nothing yet), then signs, then only verifies, and is forgotten when
nothing lives that was made with it. At every time another one waits, so that a key can be retired at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from identity_service.domain.ids import KeyId

_IMMINENT: Final = timedelta(minutes=1)
"""A key that comes into use so soon may be used by a process that has not heard of its deletion."""


class KeyPurpose(StrEnum):
    """What a key is for; a key has one purpose."""

    SIGN = "sign"
    """Signs access tokens."""
    REFRESH = "refresh"
    """Derives refresh tokens (HMAC-SHA-256, 256 random bits)."""
    ENCRYPT = "encrypt"
    """Opens access tokens that were encrypted to this service."""


FIXED_ALGORITHMS: Final = {KeyPurpose.REFRESH: "HS256", KeyPurpose.ENCRYPT: "ECDH-ES+A256KW"}
"""Of the keys that have no choice of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key as the store has it: public in the clear, the rest sealed under the master key."""

    key_id: KeyId
    purpose: KeyPurpose
    algorithm: str
    """The JWS or JWE algorithm (RFC 7518), HS256 for a refresh key: from here, never from a token."""
    public_jwk: str | None = None
    """RFC 7517 as JSON; None for a symmetric key, which is never published."""
    sealed: str = field(repr=False)
    """The private key as a JWE (dir, A256GCM) of its JWK."""
    create_time: datetime
    activate_time: datetime
    """From when on it may be the key in use."""

    @property
    def id(self) -> str:
        return self.key_id


class KeyState(StrEnum):
    """What a key is used for."""

    PENDING = "pending"
    """Signs nothing yet."""
    SIGNING = "signing"
    VERIFYING = "verifying"
    """Has signed tokens that may still live."""
    REVOKED = "revoked"
    """Retired in an emergency: nothing that was made with it counts any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """What anybody may know of a key."""

    key_id: KeyId
    purpose: KeyPurpose
    algorithm: str
    public_jwk: str | None
    """RFC 7517 as JSON; None for a symmetric key."""
    create_time: datetime
    activate_time: datetime
    state: KeyState
    expire_time: datetime | None = None
    """When it is forgotten; None while it is in use or will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """When keys follow each other."""

    rotate_every: timedelta
    publish_before: timedelta
    """Verifiers may keep a copy of the keys for so long; none signs before all of them can know it."""
    lifetimes: Mapping[KeyPurpose, timedelta]
    """How long what was made with a key may live."""

    def covering(self, lifetime: timedelta) -> "KeyPolicy":
        """The same, for tokens that live at least so long: a setting that was lowered shortens none."""
        tokens = (KeyPurpose.SIGN, KeyPurpose.ENCRYPT)
        longer = {purpose: max(self.lifetimes[purpose], lifetime) for purpose in tokens}
        return replace(self, lifetimes={**self.lifetimes, **longer})


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateKey:
    """A step of the plan: make a key that waits until then."""

    purpose: KeyPurpose
    algorithm: str
    activate_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteKey:
    """A step of the plan: forget a key."""

    key: StoredKey


def key_in_use(keys: Iterable[StoredKey], purpose: KeyPurpose, now: datetime) -> StoredKey | None:
    """The key of this purpose that was activated last and not in the future, or None."""
    active = [k for k in keys if k.purpose is purpose and k.activate_time <= now]
    return max(active, key=_order, default=None)


class KeySchedule:
    """The keys of one purpose at one moment; `revoked` ones are never in use."""

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
        """Those that come into use later, the next one first."""

    def _choose(self, now: datetime) -> StoredKey | None:
        due = key_in_use(self._all, self.purpose, now)
        if due is not None and due.key_id not in self._revoked:
            return due
        # It was retired: what waits is used before its time, since it has been published; never an older
        # one, which whoever has the retired key may have too, unless nothing else is left.
        later = [k for k in self._usable if due is None or _order(k) > _order(due)]
        return next(iter(later or self._usable[-1:]), None)

    def state(self, key: StoredKey) -> KeyState:
        if key.key_id in self._revoked:
            return KeyState.REVOKED
        if key == self.in_use:
            return KeyState.SIGNING
        return KeyState.PENDING if key in self.waiting else KeyState.VERIFYING

    def spare(self, needed: int, now: datetime) -> Sequence[StoredKey]:
        """Those that wait beyond the `needed` next ones, and may be deleted: none has signed anything."""
        return [key for key in self.waiting[needed:] if key.activate_time > now + _IMMINENT]

    def expire_time(self, key: StoredKey, policy: KeyPolicy) -> datetime | None:
        """When nothing lives any more that was made with this key; None = it may still be used."""
        if self.in_use is None or _order(key) >= _order(self.in_use):
            return None
        successor = next(k for k in self._usable if _order(k) > _order(key))
        return successor.activate_time + policy.lifetimes[self.purpose]

    def described(self, policy: KeyPolicy) -> Sequence[PublishedKey]:
        """All keys with what they are for now, the oldest first."""
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
        """What is to be done so that one key is in use, one waits, and none stays longer than needed.

        Args:
            policy: when keys follow each other.
            now: by the wall clock.
            held: the same by a wall clock that has held for a while; None = it has not. Keys are forgotten
                by this one alone: a clock that is weeks ahead for a moment costs no key that is needed.
        """
        if not self._all:
            # A store that has lost its keys is restored from a backup. One that was initialised before
            # there was encryption has lost none, and nothing is refused for a new key of that kind.
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
        for surplus in self.spare(1, now):  # two processes made one each
            yield DeleteKey(key=surplus)
        for key in self._all:
            expire_time = self.expire_time(key, policy)
            if expire_time is not None and held is not None and expire_time <= held:
                yield DeleteKey(key=key)


def _order(key: StoredKey) -> tuple[datetime, str]:
    return (key.activate_time, key.key_id)
