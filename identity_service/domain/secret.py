"""Secrets: a string that hides itself, and the client secrets that this service makes, stores and compares.

User passwords are hashed elsewhere (argon2id).
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from identity_service.domain.principals import StoredSecret

CLIENT_SECRET_PREFIX: Final = "idcs_"  # noqa: S105  # a prefix that secret scanners look for


class Secret:
    """A wrapper of a password, secret or token: no log line, error or debugger shows it by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret string, for the one place that must use it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # lookups in sets and dicts do not take constant time

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not to be pickled")


def new_client_secret() -> Secret:
    """Return a new client secret of 256 random bits.

    That is too many to guess, so a plain SHA-256 suffices for storage, and is fast to check.
    """
    return Secret(CLIENT_SECRET_PREFIX + secrets.token_urlsafe(32))


def stored(secret: Secret, expire_time: datetime | None = None) -> StoredSecret:
    """Return the secret in the form in which the store holds it."""
    return StoredSecret(digest=digest_of_secret(secret), expire_time=expire_time)


def matches_any(shown: Secret, kept: Iterable[StoredSecret], now: datetime) -> bool:
    """Return whether the secret is one of those in force; takes equally long whether it is or not."""
    return digest_matches_any(digest_of_secret(shown), kept, now)


def digest_matches_any(digest: bytes, kept: Iterable[StoredSecret], now: datetime) -> bool:
    """Return what `matches_any` returns for the secret with this digest, as `digest_of_secret` returns it."""
    found = False
    for candidate in kept:
        equal = hmac.compare_digest(candidate.digest, digest)
        found |= equal and (candidate.expire_time is None or now < candidate.expire_time)
    return found


def digest_of_secret(secret: Secret) -> bytes:
    """Return the digest of a client secret, in which form the store holds it."""
    return hashlib.sha256(secret.reveal().encode()).digest()
