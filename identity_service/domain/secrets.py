"""Client secrets: how they are made, kept and compared. Human passwords are another matter (argon2id)."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from identity_service.domain.principals import StoredSecret
from identity_service.domain.secret import Secret

CLIENT_SECRET_PREFIX: Final = "idcs_"  # noqa: S105  # a prefix that secret scanners look for


def new_client_secret() -> Secret:
    """256 random bits: too many to guess, so a plain SHA-256 is enough to keep it (and fast to check)."""
    return Secret(CLIENT_SECRET_PREFIX + secrets.token_urlsafe(32))


def stored(secret: Secret, expire_time: datetime | None = None) -> StoredSecret:
    """The secret as the store keeps it."""
    return StoredSecret(digest=_digest(secret), expire_time=expire_time)


def matches_any(shown: Secret, kept: Iterable[StoredSecret], now: datetime) -> bool:
    """Whether the secret is one of those still in force. Takes as long for a hit as for a miss."""
    digest = _digest(shown)
    found = False
    for candidate in kept:
        equal = hmac.compare_digest(candidate.digest, digest)
        found |= equal and (candidate.expire_time is None or now < candidate.expire_time)
    return found


def _digest(secret: Secret) -> bytes:
    return hashlib.sha256(secret.reveal().encode()).digest()
