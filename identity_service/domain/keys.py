"""Keys as records, and which of them is used now. Owns no cryptography and no secret in the clear."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from identity_service.domain.ids import KeyId


class KeyPurpose(StrEnum):
    """What a key is for; a key has one purpose."""

    SIGN = "sign"
    """Signs access tokens."""
    REFRESH = "refresh"
    """Derives refresh tokens (HMAC-SHA-256, 256 random bits)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key as the store has it: public in the clear, the rest sealed under the master key."""

    key_id: KeyId
    purpose: KeyPurpose
    algorithm: str
    """The JWS algorithm (RFC 7518), or HS256 for a refresh key: from here, never from a token."""
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


def key_in_use(keys: Iterable[StoredKey], purpose: KeyPurpose, now: datetime) -> StoredKey | None:
    """The key of this purpose that was activated last and not in the future, or None."""
    active = [k for k in keys if k.purpose is purpose and k.activate_time <= now]
    return max(active, key=lambda k: (k.activate_time, k.key_id), default=None)


class KeyState(StrEnum):
    """What a published key is used for."""

    PENDING = "pending"
    """Signs nothing yet."""
    SIGNING = "signing"
    VERIFYING = "verifying"
    """Has signed tokens that may still live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """What anybody may know of a signing key."""

    key_id: KeyId
    algorithm: str
    public_jwk: str
    """RFC 7517 as JSON."""
    activate_time: datetime
    state: KeyState


def key_state(key: StoredKey, signing: StoredKey | None, now: datetime) -> KeyState:
    """The state of a key, where `signing` is the one in use."""
    if key.activate_time > now:
        return KeyState.PENDING
    return KeyState.SIGNING if key == signing else KeyState.VERIFYING
