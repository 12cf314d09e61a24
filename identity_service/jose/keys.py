"""Keys for signatures: generated, or read from a JWK with every check, and used.

Each key has exactly one algorithm. PyJWT does most of the signing and verifying; this module decides with
which keys (RFC 8725 section 3.1).
"""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import jwt
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from joserfc.jwk import JWKRegistry
from jwt.algorithms import Algorithm, ECAlgorithm

from identity_service.domain.errors import ConfigurationError
from identity_service.domain.ids import KeyId, base64url
from identity_service.jose import ml_dsa
from identity_shared.key_members import check_members, check_use
from identity_shared.strict import JsonObject, decode_base64url, parse_object

RSA_BITS: Final = 3072
MIN_HMAC_BYTES: Final = 32
_ED25519_PRIME: Final = 2**255 - 19
_ED25519_Y_OF_ORDER_8: Final = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)


class _Ecdsa(ECAlgorithm):
    """A signer and verifier for the keys of one curve, in the JWS form (RFC 7518 section 3.4).

    PyJWT can do the same, but converts by way of hexadecimal text, and creates a scheme object for each call.
    """

    def __init__(self, curve: type[ec.EllipticCurve], digest: Any) -> None:
        super().__init__(digest, curve)
        self._scheme = ec.ECDSA(digest())
        self._width = (curve().key_size + 7) // 8

    def sign(self, msg: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
        """Return the signature of a message."""
        r, s = decode_dss_signature(key.sign(msg, self._scheme))
        return r.to_bytes(self._width, "big") + s.to_bytes(self._width, "big")

    def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:  # a public key, or a private one
        """Return whether a signature is valid."""
        if len(sig) != 2 * self._width:
            return False
        public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
        r, s = int.from_bytes(sig[: self._width], "big"), int.from_bytes(sig[self._width :], "big")
        try:
            public.verify(encode_dss_signature(r, s), msg, self._scheme)
        except InvalidSignature:
            return False
        return True


_OWN_IMPLEMENTATIONS: Final[Mapping[str, Algorithm]] = {
    "ES256": _Ecdsa(ec.SECP256R1, ECAlgorithm.SHA256),
    "ES384": _Ecdsa(ec.SECP384R1, ECAlgorithm.SHA384),
    "ML-DSA-44": ml_dsa.ML_DSA_44,
    "ML-DSA-65": ml_dsa.ML_DSA_65,
}
"""Our implementations for algorithms that PyJWT does not have, or has in a slower form."""
PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})


@dataclass(frozen=True, slots=True)
class AlgorithmSpec:
    """The requirements of an algorithm on its key (RFC 7518 section 3.1, RFC 8037, RFC 9964)."""

    key_type: str
    curve: str | None
    signature_bytes: int | None
    """The length of every signature; None = it varies with the key."""
    generate: Callable[[], Any]


ALGORITHMS: Final[Mapping[str, AlgorithmSpec]] = {
    "ES256": AlgorithmSpec("EC", "P-256", 64, partial(ec.generate_private_key, ec.SECP256R1())),
    "ES384": AlgorithmSpec("EC", "P-384", 96, partial(ec.generate_private_key, ec.SECP384R1())),
    "EdDSA": AlgorithmSpec("OKP", "Ed25519", 64, ed25519.Ed25519PrivateKey.generate),
    "RS256": AlgorithmSpec("RSA", None, None, partial(rsa.generate_private_key, 65537, RSA_BITS)),
    "PS256": AlgorithmSpec("RSA", None, None, partial(rsa.generate_private_key, 65537, RSA_BITS)),
    "ML-DSA-44": AlgorithmSpec("AKP", None, 2420, ml_dsa.ML_DSA_44.generate),
    "ML-DSA-65": AlgorithmSpec("AKP", None, 3309, ml_dsa.ML_DSA_65.generate),
    "HS256": AlgorithmSpec("oct", None, 32, partial(secrets.token_bytes, 32)),
}
"""The algorithms of this service; `none` and all others are not supported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedKey:
    """A newly generated key."""

    key_id: KeyId
    algorithm: str
    private_jwk: str = field(repr=False)
    public_jwk: str | None
    """The public JWK as JSON; None for a symmetric key, which is never published."""


class JwsKey:
    """A key with its one algorithm; implements the ports SigningKey and VerifyingKey."""

    __slots__ = ("_algorithm", "_key", "_signature_bytes", "algorithm", "key_id")

    def __init__(self, key_id: KeyId, algorithm: str, key: Any) -> None:
        self.key_id = key_id
        self.algorithm = algorithm
        self._algorithm = _library(algorithm)
        self._signature_bytes = ALGORITHMS[algorithm].signature_bytes
        self._key = key

    def sign(self, message: bytes) -> bytes:
        """Return the JWS signature of a message."""
        return self._algorithm.sign(message, self._key)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Return whether a signature is valid; never raises, whatever the bytes are."""
        if self._signature_bytes not in (None, len(signature)):
            return False
        try:
            return self._algorithm.verify(message, self._key, signature)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            return False

    def equals(self, other: "JwsKey") -> bool:
        """Return whether both have the same key and algorithm; their ids may differ."""
        return self.algorithm == other.algorithm and bool(self._key == other._key)  # noqa: SLF001  # of the same class

    def __repr__(self) -> str:
        return f"JwsKey({self.key_id!r}, {self.algorithm!r})"


def require_algorithm(algorithm: str) -> AlgorithmSpec:
    """Return the requirements of an algorithm. Raises ConfigurationError if this service does not have it."""
    spec = ALGORITHMS.get(algorithm)
    if spec is None:
        raise ConfigurationError(f"algorithm: {algorithm!r} is none of {', '.join(ALGORITHMS)}")
    return spec


def generate(algorithm: str) -> GeneratedKey:
    """Return a new random key; its id is the RFC 7638 thumbprint, or random for a symmetric key."""
    spec = require_algorithm(algorithm)
    key = spec.generate()
    private: JsonObject = _library(algorithm).to_jwk(key, as_dict=True)
    public = {name: value for name, value in private.items() if name not in PRIVATE_MEMBERS}
    is_symmetric = spec.key_type == "oct"
    key_id = KeyId(base64url(secrets.token_bytes(16))) if is_symmetric else thumbprint(public)
    return GeneratedKey(
        key_id=key_id,
        algorithm=algorithm,
        private_jwk=dump_jwk(private, key_id, algorithm, use="sig"),
        public_jwk=None if is_symmetric else dump_jwk(public, key_id, algorithm, use="sig"),
    )


def parse_registered(text: str, max_chars: int) -> JsonObject:
    """Parse a JWK or JWK Set that is to be registered. Raises ValueError, which holds no part of it."""
    if len(text) > max_chars:
        raise ValueError(f"must have at most {max_chars // 1024} KiB")
    try:
        return parse_object(text.encode())
    except ValueError:
        # The message of the parser may hold a part of the text.
        raise ValueError("must be a JSON object without duplicate members") from None


def refuse_private(jwk: JsonObject) -> None:
    """Raise ValueError if a JWK that is to be registered has a private or symmetric key."""
    if not PRIVATE_MEMBERS.isdisjoint(jwk):
        raise ValueError("holds a private or symmetric key; give the public key only, and replace that one")


def thumbprint(jwk: Mapping[str, Any]) -> KeyId:
    """Return the SHA-256 thumbprint of a JWK (RFC 7638)."""
    if jwk.get("kty") == "AKP":
        return KeyId(ml_dsa.thumbprint(jwk))
    return KeyId(JWKRegistry.import_key(dict(jwk)).thumbprint())


def load(jwk_text: str, algorithm: str, *, private: bool) -> JwsKey:
    """Return the key in a JWK, for one algorithm and for signing or verifying.

    Raises:
        ValueError: another type, curve, `use`, `key_ops` or `alg`; a member that `key_members` refuses; a key
            that is too small or not on its curve.
        ConfigurationError: the algorithm is unknown.
    """
    require_algorithm(algorithm)
    jwk = parse_object(jwk_text.encode())
    check_members(jwk)
    return load_checked(jwk, algorithm, private=private)


def is_for(jwk: JsonObject, algorithm: str) -> bool:
    """Return whether the type, curve and `alg` of a JWK fit an algorithm. Does not look at the key itself."""
    spec = ALGORITHMS[algorithm]
    return (
        jwk.get("kty") == spec.key_type
        and jwk.get("crv", spec.curve) == spec.curve
        and jwk.get("alg", algorithm) == algorithm
    )


def load_checked(jwk: JsonObject, algorithm: str, *, private: bool) -> JwsKey:
    """Return the key in a JWK that `check_members` has accepted. Raises as `load` does."""
    spec = require_algorithm(algorithm)
    if jwk.get("kty") != spec.key_type or jwk.get("crv", spec.curve) != spec.curve:
        raise ValueError(f"the key is not one for {algorithm}")
    if jwk.get("alg", algorithm) != algorithm:
        raise ValueError("the key is for another algorithm")
    check_use(jwk, "sig", {"sign" if private else "verify"})
    try:
        # The purpose of the key was checked above. Only in AKP is `alg` a part of the key.
        known = ("use", "key_ops") if spec.key_type == "AKP" else ("use", "key_ops", "alg")
        key = _library(algorithm).from_jwk({n: v for n, v in jwk.items() if n not in known})
    except (jwt.InvalidKeyError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"the key is not a well-formed one for {algorithm}") from error
    _check_strength(key)
    if private and not isinstance(key, bytes) and not hasattr(key, "sign"):
        raise ValueError("the key has no private part")
    if not private and not isinstance(key, bytes) and hasattr(key, "public_key"):
        key = key.public_key()
    return JwsKey(KeyId(str(jwk.get("kid", ""))), algorithm, key)


def _check_strength(key: Any) -> None:
    if isinstance(key, bytes) and len(key) < MIN_HMAC_BYTES:
        raise ValueError(f"an HMAC key must have at least {MIN_HMAC_BYTES} bytes")
    if isinstance(key, ed25519.Ed25519PublicKey) and _has_small_order(key):
        raise ValueError("the key is a point of small order: whatever is signed would verify with it")


def _has_small_order(key: ed25519.Ed25519PublicKey) -> bool:
    """Return whether an Ed25519 key is a point of small order.

    Also True for encodings that RFC 8032 section 5.1.3 refuses and the library accepts.
    """
    y = int.from_bytes(key.public_bytes_raw(), "little") % 2**255  # without the sign bit of x
    order_4_2_1_8 = (0, _ED25519_PRIME - 1, 1, _ED25519_Y_OF_ORDER_8, _ED25519_PRIME - _ED25519_Y_OF_ORDER_8)
    return y >= _ED25519_PRIME or y in order_4_2_1_8


def _library(algorithm: str) -> Algorithm:
    return _OWN_IMPLEMENTATIONS.get(algorithm) or jwt.get_algorithm_by_name(algorithm)


def dump_jwk(jwk: Mapping[str, Any], key_id: KeyId, algorithm: str, *, use: str) -> str:
    """Return a JWK with this `kid`, `alg` and `use`, and without `key_ops`, as JSON."""
    kept = {name: value for name, value in jwk.items() if name != "key_ops"}
    return json.dumps(kept | {"kid": key_id, "alg": algorithm, "use": use}, separators=(",", ":"))


def secret_bytes(jwk_text: str) -> bytes:
    """Return the bytes of a symmetric JWK. Raises ValueError."""
    jwk = parse_object(jwk_text.encode())
    if jwk.get("kty") != "oct" or not isinstance(jwk.get("k"), str):
        raise ValueError("not a symmetric key")
    return decode_base64url(jwk["k"])
