"""Checks of public keys of clients and trusted issuers before they are stored; implements PublicKeyChecker.

No message holds any part of a key but its `kid`.
"""

from collections.abc import Sequence
from typing import Final

from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.domain.visible import escape
from identity_service.jose.encryption_keys import MAX_KEY_CHARS, MAX_KEY_ID_CHARS, read_encryption_key
from identity_service.jose.jwks import read_key_set, stated_members
from identity_service.jose.keys import load, parse_registered, refuse_private

MAX_SET_CHARS: Final = 64 * 1024
_MAX_SET_KEYS: Final = 100


class StrictKeyChecker:
    """A checker that accepts a key if `load` does, and if it is public and its algorithm is asymmetric."""

    def check_key(self, jwk: str) -> str:
        """Return the `kid` of a JWK if the key is accepted.

        Raises ValueError, which says what the key must be.
        """
        key = parse_registered(jwk, MAX_KEY_CHARS)
        refuse_private(key)
        key_id, algorithm = key.get("kid"), key.get("alg")
        if not isinstance(key_id, str) or not 1 <= len(key_id) <= MAX_KEY_ID_CHARS:
            raise ValueError(f"must have a `kid` of 1 to {MAX_KEY_ID_CHARS} characters")
        if algorithm not in ISSUER_ALGORITHMS:
            raise ValueError(f"must have an `alg`, one of {', '.join(ISSUER_ALGORITHMS)}")
        load(jwk, algorithm, private=False)
        return key_id

    def check_encryption_key(self, jwk: str) -> None:
        """Raise ValueError if tokens cannot be encrypted to a JWK."""
        read_encryption_key(jwk)

    def check_key_set(self, jwks: str, algorithms: Sequence[str]) -> None:
        """Raise ValueError if a JWK Set has no key for any of these algorithms, or holds a private key."""
        keys = parse_registered(jwks, MAX_SET_CHARS).get("keys")
        if not isinstance(keys, list) or not 1 <= len(keys) <= _MAX_SET_KEYS:
            raise ValueError(f"must have a list `keys` of 1 to {_MAX_SET_KEYS} keys")
        if not all(isinstance(key, dict) for key in keys):
            raise ValueError("every one of `keys` must be a JWK")
        for key in keys:
            refuse_private(stated_members(key))
        # RFC 7517 section 5: a key of another kind is not an error, but is ignored.
        found = read_key_set(jwks.encode(), algorithms)
        if not found.keys:
            raise ValueError(f"holds no key that can be used; {escape(found.unused[0])}")
