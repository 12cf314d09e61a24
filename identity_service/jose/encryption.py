"""Nested tokens: a signed JWT inside a compact JWE (RFC 7516, RFC 7519 section 5.2).

The algorithm comes from the key, never from the token; the content is always encrypted with A256GCM and never
compressed. A JWE that does not have exactly the form that this service writes is not decrypted (RFC 8725).
"""

from collections.abc import Mapping
from typing import Any, Final

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from identity_service.domain.ids import KeyId
from identity_service.jose.claims import MAX_KEY_ID_CHARS
from identity_shared.strict import JsonObject, decode_base64url, parse_object

SERVICE_ALGORITHM: Final = "ECDH-ES+A256KW"
"""The algorithm of the keys with which tokens are encrypted to this service; the curve is P-256."""

_CONTENT: Final = "A256GCM"
_HEADER: Final = {"alg": SERVICE_ALGORITHM, "enc": _CONTENT, "typ": "at+jwt", "cty": "JWT"}
"""The header of every token that is encrypted to this service, without `kid` and `epk`."""
_MEMBERS: Final = frozenset({*_HEADER, "kid", "epk"})
_EPK_MEMBERS: Final = frozenset({"kty", "crv", "x", "y"})
_MAX_HEADER_CHARS: Final = 1024
_COORDINATE_BYTES: Final = 32
_WRAPPED_BYTES: Final = 40
"""The length of a 256-bit content key under AES Key Wrap (RFC 3394)."""
_IV_BYTES: Final = 12
_TAG_BYTES: Final = 16


class EncryptionKey:
    """A public key that tokens are encrypted with; implements the port EncryptingKey."""

    __slots__ = ("_key", "algorithm", "key_id")

    def __init__(self, key_id: KeyId, algorithm: str, key: Any) -> None:
        """Create a key from `key`, a key of joserfc that `encryption_keys` has checked."""
        self.key_id = key_id
        self.algorithm = algorithm
        self._key = key

    def encrypt(self, token: str) -> str:
        """Return the compact JWE that holds a signed token."""
        header = _HEADER | {"alg": self.algorithm, "kid": self.key_id}
        return jwe.encrypt_compact(header, token.encode(), self._key, algorithms=[self.algorithm, _CONTENT])


def read_key_id(text: str) -> str | None:
    """Return the `kid` of a token, or None unless it has exactly the form of one encrypted to this service.

    The caller has checked the length of `text`.
    """
    parts = text.split(".")
    if len(parts) != 5 or len(parts[0]) > _MAX_HEADER_CHARS:
        return None
    try:
        header = parse_object(decode_base64url(parts[0]))
        wrapped, iv, content, tag = map(decode_base64url, parts[1:])
    except ValueError:
        return None
    sizes = len(wrapped), len(iv), len(tag)
    if sizes != (_WRAPPED_BYTES, _IV_BYTES, _TAG_BYTES) or not content or not _is_ours(header):
        return None
    key_id: str = header["kid"]
    return key_id


def _is_ours(header: JsonObject) -> bool:
    """Return whether a header has exactly the members that this service writes.

    This refuses `zip`, `crit`, `jwk`, `apu`, `p2c` and the like.
    """
    kid = header.get("kid")
    return (
        header.keys() == _MEMBERS
        and _HEADER.items() <= header.items()
        and isinstance(kid, str)
        and 0 < len(kid) <= MAX_KEY_ID_CHARS
        and _is_ephemeral(header["epk"])
    )


def _is_ephemeral(epk: object) -> bool:
    """Return whether `epk` has the form of a point on P-256.

    The library refuses a point that is not on the curve (RFC 8725 section 3.4).
    """
    if not isinstance(epk, Mapping) or epk.keys() != _EPK_MEMBERS:
        return False
    if (epk["kty"], epk["crv"]) != ("EC", "P-256"):
        return False
    point = epk["x"], epk["y"]
    try:
        return all(isinstance(n, str) and len(decode_base64url(n)) == _COORDINATE_BYTES for n in point)
    except ValueError:
        return False


class ServiceDecryptionKey:
    """A private key that decrypts tokens encrypted to this service; implements the port DecryptingKey."""

    __slots__ = ("_key", "key_id")

    def __init__(self, key_id: KeyId, key: ECKey) -> None:
        """Create a key from `key`, a private key of joserfc on P-256."""
        self.key_id = key_id
        self._key = key

    def __repr__(self) -> str:
        return f"ServiceDecryptionKey({self.key_id!r})"

    def decrypt(self, text: str) -> str | None:
        """Return the signed token in a compact JWE, or None if it is not encrypted with this key."""
        if read_key_id(text) != self.key_id:
            return None
        try:
            opened = jwe.decrypt_compact(text, self._key, algorithms=[SERVICE_ALGORITHM, _CONTENT])
            return (opened.plaintext or b"").decode("ascii")
        except (JoseError, ValueError):
            return None
