"""The published signing keys as a JWK set (RFC 7517), with its etag and how long clients may cache it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from identity_service.domain.ids import base64url
from identity_service.domain.keys import PublishedKey

_LONGEST_MAX_AGE: Final = timedelta(minutes=20)


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
