"""The published keys with which signatures are verified, each for one algorithm only (RFC 8725)."""

from typing import Any, Final, Protocol

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from identity_shared.key_members import check_members, check_use
from identity_shared.strict import JsonObject, decode_base64url, parse_object

try:
    from cryptography.hazmat.primitives.asymmetric import mldsa as _mldsa

    mldsa: Any = _mldsa
except ImportError:  # pragma: no cover  # an older cryptography without ML-DSA: `open_key` returns None
    mldsa = None

_SIGNATURE_BYTES: Final = {"EdDSA": 64, "RS256": None, "PS256": None}
_CURVES: Final = {
    "ES256": (ec.SECP256R1(), ec.ECDSA(hashes.SHA256()), 32),
    "ES384": (ec.SECP384R1(), ec.ECDSA(hashes.SHA384()), 48),
}
"""For each algorithm, the curve, ECDSA with its hash, and the length of one coordinate in bytes (RFC 7518
section 3.4)."""
_ML_DSA: Final = {"ML-DSA-44": "MLDSA44PublicKey", "ML-DSA-65": "MLDSA65PublicKey"}
KEY_TYPES: Final = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "EdDSA": ("OKP", "Ed25519"),
    "RS256": ("RSA", None),
    "PS256": ("RSA", None),
    **dict.fromkeys(_ML_DSA, ("AKP", None)),
}
"""The algorithms of published keys, each with the key type and curve of its keys."""


class VerifyingKey(Protocol):
    """A published public key and the only algorithm that it is used with."""

    algorithm: str

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Return whether this is the key's signature of the message."""


def open_key(jwk_text: str, algorithm: str) -> VerifyingKey | None:
    """Read a published key, a JWK as JSON text (RFC 7517).

    Returns None if this client does not support the algorithm. Raises ValueError if the JWK is not a
    well-formed key for the algorithm.
    """
    expected = KEY_TYPES.get(algorithm)
    if expected is None:
        return None
    jwk = parse_object(jwk_text.encode())
    if (jwk.get("kty"), jwk.get("crv")) != expected or jwk.get("alg", algorithm) != algorithm:
        raise ValueError(f"the key is not one for {algorithm}")
    check_use(jwk, "sig", {"verify"})
    check_members(jwk)
    if algorithm in _CURVES:
        return _EcKey(jwk, algorithm)
    if algorithm not in _ML_DSA:
        return _JwtKey(jwk, algorithm)
    return _MlDsaKey(jwk, algorithm) if mldsa is not None else None


class _JwtKey:
    """A key for EdDSA, RS256 or PS256, verified with PyJWT."""

    __slots__ = ("_algorithm", "_key", "_signature_bytes", "algorithm")

    def __init__(self, jwk: JsonObject, algorithm: str) -> None:
        self.algorithm = algorithm
        self._algorithm = jwt.get_algorithm_by_name(algorithm)
        self._signature_bytes = _SIGNATURE_BYTES[algorithm]
        members = {name: value for name, value in jwk.items() if name not in ("use", "key_ops", "alg")}
        try:
            self._key = self._algorithm.from_jwk(members)
        except (jwt.InvalidKeyError, TypeError, KeyError) as error:
            raise ValueError(f"the key is not a well-formed one for {algorithm}") from error

    def verify(self, message: bytes, signature: bytes) -> bool:
        if self._signature_bytes not in (None, len(signature)):
            return False
        try:
            return self._algorithm.verify(message, self._key, signature)
        except ValueError:
            return False


class _EcKey:
    """A key for ES256 or ES384, verified with `cryptography`: PyJWT adds a tenth to each verification."""

    __slots__ = ("_hashed", "_key", "_size", "algorithm")

    def __init__(self, jwk: JsonObject, algorithm: str) -> None:
        self.algorithm = algorithm
        curve, self._hashed, self._size = _CURVES[algorithm]
        x, y = (_bytes(jwk, name) for name in ("x", "y"))
        self._key = ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x04" + x + y)

    def verify(self, message: bytes, signature: bytes) -> bool:
        size = self._size
        if len(signature) != 2 * size:
            return False
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        try:
            self._key.verify(encode_dss_signature(r, s), message, self._hashed)
        except InvalidSignature:
            return False
        return True


class _MlDsaKey:
    """A key for ML-DSA (RFC 9964), verified with `cryptography`: PyJWT does not have it."""

    __slots__ = ("_key", "algorithm")

    def __init__(self, jwk: JsonObject, algorithm: str) -> None:
        self.algorithm = algorithm
        kind: Any = getattr(mldsa, _ML_DSA[algorithm])
        self._key = kind.from_public_bytes(_bytes(jwk, "pub"))

    def verify(self, message: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def _bytes(jwk: JsonObject, name: str) -> bytes:
    value = jwk.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text")
    return decode_base64url(value)
