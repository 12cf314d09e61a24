"""Assertions as compact JWS: strict parsing of tokens that others signed; implements AssertionReader.

No header parameter but `kid` and `alg` selects a key, and none supplies a key: jku, jwk, x5u and x5c are
ignored (RFC 8725 section 3.10). The module trusts no issuer and knows no clock.
"""

from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from identity_service.domain.assertions import Assertion, UnverifiedAssertion
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.ids import KeyId
from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.domain.ports import VerifyingKey
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import MAX_TOKEN_CHARS
from identity_service.jose.claims import MAX_KEY_ID_CHARS, read_audience, read_text, read_time
from identity_service.jose.jwks import open_public_key
from identity_service.jose.keys import JwsKey
from identity_shared.strict import JsonObject, decode_base64url, parse_object

_MAX_TEXT_CHARS: Final = 1024
"""The longest `iss`, `sub` and `jti`, in characters."""
_KEY_CACHE_SIZE: Final = 1000


class StrictAssertions:
    """A strict parser of assertions, with a cache of recently used keys of clients."""

    def __init__(self) -> None:
        self._open = lru_cache(_KEY_CACHE_SIZE)(open_public_key)
        self._dummy_keys = _make_dummy_keys()

    def read(self, jwt: Secret) -> UnverifiedAssertion:
        """Parse an assertion without verifying it. Raises CredentialRefusedError if it is malformed."""
        text = jwt.reveal()
        parts = text.split(".")
        if len(text) > MAX_TOKEN_CHARS or len(parts) != 3:
            raise CredentialRefusedError("it is not a compact JWS of at most 8 KiB")
        try:
            header = parse_object(decode_base64url(parts[0]))
            claims = parse_object(decode_base64url(parts[1]))
            signature = decode_base64url(parts[2])
            algorithm, key_id, type_ = _read_header(header)
            assertion = _read_claims(claims, type_)
        except ValueError as error:
            # Name the claim, never its value: messages of the parsers, which may quote the text, are left
            # out.
            why = str(error) if type(error) is _FormError else "not canonical base64url of JSON objects"
            raise CredentialRefusedError(f"it is malformed: {why}") from None
        message = text.rpartition(".")[0].encode("ascii")
        return UnverifiedAssertion(
            algorithm=algorithm, key_id=key_id, assertion=assertion, message=message, signature=signature
        )

    def open_key(self, jwk: str) -> VerifyingKey:
        """Return the key in a JWK, from the cache if it was used recently. Raises ValueError."""
        return self._open(jwk)

    def spend(self, assertion: UnverifiedAssertion) -> None:
        """Verify the signature with a dummy key, which takes as long as with a real one."""
        self._dummy_keys[assertion.algorithm].verify(assertion.message, assertion.signature)


def type_of(jwt: Secret) -> str:
    """Return the `typ` that a JWT claims, in the form of `Assertion.type`; empty if there is none to read.

    Only for choosing the rules by which the JWT is then checked: nothing about it is verified.
    """
    try:
        return _read_type(parse_object(decode_base64url(jwt.reveal().partition(".")[0])))
    except ValueError:
        return ""


class _FormError(ValueError):
    """An error whose message consists of this module's own words, so that it quotes nothing."""


def _read_header(header: JsonObject) -> tuple[str, str, str]:
    algorithm, key_id = header.get("alg"), header.get("kid", "")
    if algorithm not in ISSUER_ALGORITHMS:
        raise _FormError("alg is not an accepted algorithm")
    if "crit" in header or "b64" in header:
        raise _FormError("crit and b64 are not supported")
    if not isinstance(key_id, str) or ("kid" in header and not 0 < len(key_id) <= MAX_KEY_ID_CHARS):
        raise _FormError("kid must be a text")
    return algorithm, key_id, _read_type(header)


def _read_type(header: JsonObject) -> str:
    type_ = header.get("typ", "")
    if not isinstance(type_, str):
        raise _FormError("typ must be a text")
    return type_.lower().removeprefix("application/")


def _read_claims(claims: JsonObject, type_: str) -> Assertion:
    try:
        return Assertion(
            type=type_,
            issuer=_read_name(claims, "iss"),
            subject=_read_name(claims, "sub"),
            audience=read_audience(claims.get("aud")),
            expire_time=read_time(claims, "exp"),
            issue_time=read_time(claims, "iat") if "iat" in claims else None,
            not_before=read_time(claims, "nbf") if "nbf" in claims else None,
            token_id=_read_name(claims, "jti") if "jti" in claims else None,
            claims=claims,
        )
    except ValueError as error:
        raise _FormError(str(error)) from None


def _read_name(claims: JsonObject, name: str) -> str:
    """Return a claim that is used as a key in lookups: at most 1,024 printable characters."""
    text = read_text(claims, name)
    if len(text) > _MAX_TEXT_CHARS or not text.isprintable():
        raise ValueError(f"{name} must have at most {_MAX_TEXT_CHARS} printable characters")
    return text


def _make_dummy_keys() -> dict[str, JwsKey]:
    """Return a dummy key for each algorithm, which verifies as slowly as a real key.

    A signature that verifies with a dummy key authenticates no client, so the keys need not be strong.
    """
    kinds = {
        "ES256": ec.generate_private_key(ec.SECP256R1()).public_key(),
        "ES384": ec.generate_private_key(ec.SECP384R1()).public_key(),
        "EdDSA": ed25519.Ed25519PrivateKey.generate().public_key(),
    }
    # Generating an RSA key takes long; for the arithmetic any odd modulus will do.
    some_rsa = rsa.RSAPublicNumbers(65537, 2**2048 - 1).public_key()
    return {name: JwsKey(KeyId(""), name, kinds.get(name, some_rsa)) for name in ISSUER_ALGORITHMS}
