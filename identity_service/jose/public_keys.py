"""Checks of public keys of clients and trusted issuers before they are stored; implements PublicKeyChecker.

No message holds any part of a key but its `kid`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.domain.visible import escape
from identity_service.jose.encryption_keys import read_encryption_key
from identity_service.jose.jwks import read_key_set, stated_members
from identity_service.jose.keys import PRIVATE_MEMBERS, load
from identity_shared.strict import JsonObject, parse_object

MAX_KEY_CHARS: Final = 4 * 1024
MAX_SET_CHARS: Final = 64 * 1024
MAX_KEY_ID_CHARS: Final = 128
_MAX_SET_KEYS: Final = 100


class StrictKeyChecker:
    """A checker that accepts a key if `load` does, and if it is public and its algorithm is asymmetric."""

    def check_key(self, jwk: str) -> str:
        """Return the `kid` of a JWK if the key is accepted.

        Raises ValueError, which says what the key must be.
        """
        if len(jwk) > MAX_KEY_CHARS:
            raise ValueError("must have at most 4 KiB")
        key = _object(jwk)
        _refuse_private([key])
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
        if len(jwks) > MAX_SET_CHARS:
            raise ValueError("must have at most 64 KiB")
        keys = _object(jwks).get("keys")
        if not isinstance(keys, list) or not 1 <= len(keys) <= _MAX_SET_KEYS:
            raise ValueError(f"must have a list `keys` of 1 to {_MAX_SET_KEYS} keys")
        if not all(isinstance(key, dict) for key in keys):
            raise ValueError("every one of `keys` must be a JWK")
        _refuse_private(map(stated_members, keys))
        # RFC 7517 section 5: a key of another kind is not an error, but is ignored.
        found = read_key_set(jwks.encode(), algorithms)
        if not found.keys:
            raise ValueError(f"holds no key that can be used; {escape(found.unused[0])}")


def _object(text: str) -> JsonObject:
    try:
        return parse_object(text.encode())
    except ValueError:
        # The message of the parser may hold a part of the text.
        raise ValueError("must be a JSON object without duplicate members") from None


def _refuse_private(keys: Iterable[JsonObject]) -> None:
    if any(not PRIVATE_MEMBERS.isdisjoint(key) for key in keys):
        raise ValueError("holds a private or symmetric key; give the public key only, and replace that one")
