"""DPoP proofs as compact JWS (RFC 9449 section 4.2): strict parsing; implements DpopProofReader.

The key is the one in the header, as the RFC demands: a proof shows that its sender holds this key, and says
nothing about which principal that is. The module does not compare a proof with a clock or a request.
"""

from base64 import urlsafe_b64decode
from typing import Any, Final

from identity_service.domain.credential_errors import DpopProofRefusedError
from identity_service.domain.dpop import DpopProof
from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.domain.secret import Secret
from identity_service.jose.claims import read_text, read_time
from identity_service.jose.keys import PRIVATE_MEMBERS, JwsKey, load_checked, thumbprint
from identity_shared.key_members import check_members
from identity_shared.strict import JsonObject, decode_base64url, parse_object

DPOP_ALGORITHMS: Final = ISSUER_ALGORITHMS
"""The algorithms of proofs (RFC 9449 section 5.1): those that the registered keys of clients may have."""
MAX_PROOF_CHARS: Final = 4 * 1024
MAX_TOKEN_ID_CHARS: Final = 128
_TYPE: Final = "dpop+jwt"
_MAX_RSA_BITS: Final = 4096
"""The longest RSA key. Strangers choose these keys, and a verification with 8,192 bits takes 2 ms."""
_KEY_MEMBERS: Final = ("kty", "crv", "x", "y", "n", "e")
"""The members that thumbprints are made of (RFC 7638 section 3.2, RFC 8037 section 2)."""


class StrictDpopProofs:
    """A strict parser of DPoP proofs."""

    def read(self, jwt: Secret) -> DpopProof:
        """Parse a proof, and verify it with the key in its header. Raises DpopProofRefusedError."""
        text = jwt.reveal()
        parts = text.split(".")
        if len(text) > MAX_PROOF_CHARS or len(parts) != 3:
            raise DpopProofRefusedError("it is not a compact JWS of at most 4 KiB")
        header, claims = _read_object(parts[0], "header"), _read_object(parts[1], "claims")
        try:
            key, key_sha256 = _read_header(header)
            proof = _read_claims(claims, key_sha256)
        except ValueError as error:
            raise DpopProofRefusedError(str(error)) from None
        if not _verifies(key, text, parts[2]):
            raise DpopProofRefusedError("its signature does not verify with the key in its jwk")
        return proof


def _verifies(key: JwsKey, text: str, signature: str) -> bool:
    try:
        return key.verify(text.rpartition(".")[0].encode(), decode_base64url(signature))
    except ValueError:  # not canonical base64url
        return False


def _read_object(part: str, name: str) -> JsonObject:
    try:
        return parse_object(decode_base64url(part))
    except ValueError:
        # The message of the parser may quote the text.
        raise DpopProofRefusedError(f"its {name} must be base64url of a JSON object") from None


def _read_header(header: JsonObject) -> tuple[JwsKey, bytes]:
    """Return the key and its thumbprint. Raises ValueError, which quotes nothing."""
    type_, algorithm, jwk = header.get("typ"), header.get("alg"), header.get("jwk")
    if not isinstance(type_, str) or type_.lower().removeprefix("application/") != _TYPE:
        raise ValueError(f"its typ must be {_TYPE}")
    if algorithm not in DPOP_ALGORITHMS:
        raise ValueError(f"its alg must be one of {', '.join(DPOP_ALGORITHMS)}")
    if "crit" in header or "b64" in header:
        raise ValueError("crit and b64 are not supported")
    if not isinstance(jwk, dict):
        raise ValueError("its jwk must be the public key")  # noqa: TRY004  # a value of a header
    if not PRIVATE_MEMBERS.isdisjoint(jwk):
        raise ValueError("its jwk holds a private key, which is known to others now: make a new key")
    try:
        check_members(jwk, max_rsa_bits=_MAX_RSA_BITS)
        key = load_checked(jwk, algorithm, private=False)
    except ValueError as error:
        raise ValueError(f"its jwk is refused: {error}") from None
    return key, _thumbprint(jwk)


def _thumbprint(jwk: JsonObject) -> bytes:
    # Of these members alone: joserfc raises errors for others, such as a `kid` that is not a string.
    found = thumbprint({name: jwk[name] for name in _KEY_MEMBERS if name in jwk})
    return urlsafe_b64decode(found + "=")


def _read_claims(claims: JsonObject, key_sha256: bytes) -> DpopProof:
    """Return the claims. Raises ValueError, which quotes nothing."""
    token_id = read_text(claims, "jti")
    if len(token_id) > MAX_TOKEN_ID_CHARS:
        raise ValueError(f"jti must have at most {MAX_TOKEN_ID_CHARS} characters")
    return DpopProof(
        key_sha256=key_sha256,
        token_id=token_id,
        method=read_text(claims, "htm"),
        uri=read_text(claims, "htu"),
        issue_time=read_time(claims, "iat"),
        access_token_sha256=_read_digest(claims, "ath") if "ath" in claims else None,
        nonce=read_text(claims, "nonce") if "nonce" in claims else None,
    )


def _read_digest(claims: JsonObject, name: str) -> bytes:
    text: Any = claims[name]
    try:
        digest = decode_base64url(text) if isinstance(text, str) else b""
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ValueError(f"{name} must be the base64url of a SHA-256")
    return digest
