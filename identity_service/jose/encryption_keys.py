"""Keys that encrypt tokens: generated for this service, or read from a JWK (RFC 7517, RFC 7518).

Every key is checked, and has exactly one algorithm. No message holds any part of a key.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry

from identity_service.domain.ids import KeyId
from identity_service.jose.encryption import SERVICE_ALGORITHM, EncryptionKey, ServiceDecryptionKey
from identity_service.jose.keys import GeneratedKey, dump_jwk, parse_registered, refuse_private, thumbprint
from identity_shared.key_members import check_members, check_use
from identity_shared.strict import JsonObject, parse_object

MAX_KEY_CHARS: Final = 4 * 1024
MAX_RSA_BITS: Final = 4096
"""The largest RSA key: a larger key takes longer than a call may, and makes no token safer."""
MAX_KEY_ID_CHARS: Final = 128
_KEY_ID: Final = re.compile(rf"[ -~]{{1,{MAX_KEY_ID_CHARS}}}")
"""Printable ASCII."""
SERVICE_CURVE: Final = "P-256"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionSpec:
    """The requirements of an algorithm on the key of an audience (RFC 7518 section 4.1, RFC 8037)."""

    curves: Mapping[str, frozenset[str | None]]
    """The accepted curves by key type; None = the key type has no curve."""
    operations: frozenset[str]
    """The `key_ops` of which a public key must allow at least one, if it has `key_ops`."""


_AGREEMENT: Final = EncryptionSpec(
    curves={"EC": frozenset({"P-256", "P-384", "P-521"}), "OKP": frozenset({"X25519"})},
    operations=frozenset({"deriveKey", "deriveBits"}),
)
ENCRYPTION_ALGORITHMS: Final[Mapping[str, EncryptionSpec]] = {
    "RSA-OAEP-256": EncryptionSpec(
        curves={"RSA": frozenset({None})}, operations=frozenset({"wrapKey", "encrypt"})
    ),
    "ECDH-ES": _AGREEMENT,
    "ECDH-ES+A128KW": _AGREEMENT,
    "ECDH-ES+A256KW": _AGREEMENT,
}
"""The algorithms that keys of audiences may have. RSA1_5, PBES2, `dir` and all others are not supported."""


def generate_service_key() -> GeneratedKey:
    """Return a new random key pair for tokens that are encrypted to this service."""
    key = ECKey.generate_key(SERVICE_CURVE, private=True)
    private, public = key.as_dict(private=True), key.as_dict(private=False)
    key_id = thumbprint(public)
    return GeneratedKey(
        key_id=key_id,
        algorithm=SERVICE_ALGORITHM,
        private_jwk=dump_jwk(private, key_id, SERVICE_ALGORITHM, use="enc"),
        public_jwk=dump_jwk(public, key_id, SERVICE_ALGORITHM, use="enc"),
    )


def load_service_key(jwk_text: str) -> ServiceDecryptionKey:
    """Return a private key of this service from its JWK. Raises ValueError."""
    jwk = parse_object(jwk_text.encode())
    if (jwk.get("kty"), jwk.get("crv"), jwk.get("alg")) != ("EC", SERVICE_CURVE, SERVICE_ALGORITHM):
        raise ValueError(f"the key is not one for {SERVICE_ALGORITHM} on {SERVICE_CURVE}")
    check_use(jwk, "enc", _AGREEMENT.operations)
    key = _import(jwk)
    if not isinstance(key, ECKey) or not key.is_private:
        raise ValueError("the key has no private part")
    return ServiceDecryptionKey(KeyId(str(jwk.get("kid", ""))), key)


def read_encryption_key(jwk_text: str) -> EncryptionKey:
    """Return a public key from the JWK that a client registers, with `kid` and `alg`.

    Raises ValueError, which says what the key must be and holds no part of it, if the key is private, of
    another algorithm, type or curve, too small, not on its curve, or if its `use` or `key_ops` forbid
    encryption.
    """
    jwk = parse_registered(jwk_text, MAX_KEY_CHARS)
    refuse_private(jwk)
    key_id, algorithm = jwk.get("kid"), jwk.get("alg")
    if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
        raise ValueError(f"must have a `kid` of 1 to {MAX_KEY_ID_CHARS} printable ASCII characters")
    spec = ENCRYPTION_ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
    if spec is None or algorithm is None:
        raise ValueError(f"must have an `alg`, one of {', '.join(ENCRYPTION_ALGORITHMS)}")
    curves = spec.curves.get(str(jwk.get("kty")))
    if curves is None or jwk.get("crv") not in curves:
        raise ValueError(f"must be a key for {algorithm}")
    _check_permissions(jwk, spec)
    key = EncryptionKey(KeyId(key_id), algorithm, _import(jwk))
    try:
        key.encrypt("")  # reveals errors that loading does not, such as an X25519 point of small order
    except (JoseError, ValueError):
        raise ValueError(f"must be a key that {algorithm} can encrypt to") from None
    return key


def _check_permissions(jwk: JsonObject, spec: EncryptionSpec) -> None:
    """Check that `use` and `key_ops` (RFC 7517 sections 4.2 and 4.3) allow encryption. Raises ValueError."""
    # The public key of a key agreement has no operation of its own: some software writes an empty list.
    if spec is _AGREEMENT and jwk.get("key_ops") == []:
        jwk = {name: value for name, value in jwk.items() if name != "key_ops"}
    try:
        check_use(jwk, "enc", spec.operations)
    except ValueError as error:
        raise ValueError(f"must be for encryption: {error}") from None


def _import(jwk: JsonObject) -> Any:
    """Return the key of joserfc, without `use`, `key_ops`, `alg` and `kid`, which were checked.

    Raises ValueError if the key is malformed.
    """
    try:
        check_members(jwk, max_rsa_bits=MAX_RSA_BITS)
    except ValueError as error:
        raise ValueError(f"must be a well-formed key: {error}") from None
    members = {n: v for n, v in jwk.items() if n not in ("use", "key_ops", "alg", "kid")}
    try:
        key = JWKRegistry.import_key(members)
        _ = key.raw_value  # raises if the point is not on its curve
    except (JoseError, TypeError, KeyError, ValueError):
        raise ValueError("must be a well-formed key") from None
    return key
