"""Access tokens as compact JWS with the claims of RFC 9068, optionally nested in JWE; implements TokenCodec.

Reading checks everything that does not depend on time: form, algorithm, key, signature, type, issuer. The
algorithm comes from the key, never from the token, and no header parameter but `kid` selects a key (RFC
8725).
"""

from datetime import datetime
from functools import lru_cache
from typing import Final

import orjson

from identity_service.domain.errors import InvalidRequestError
from identity_service.domain.ids import KeyId, TokenId, base64url
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.ports import EncryptingKey, KeySource
from identity_service.domain.tokens import MAX_TOKEN_CHARS, AccessToken, Actor, Rejected, RejectionReason
from identity_service.jose.access_token_claims import CERTIFICATE_BINDING, KEY_BINDING, from_claims
from identity_service.jose.claims import MAX_KEY_ID_CHARS, parse_claims
from identity_service.jose.encryption import read_key_id
from identity_service.jose.keys import ALGORITHMS
from identity_shared.strict import JsonObject, decode_base64url, parse_object

TYPE: Final = "at+jwt"
_TYPES: Final = frozenset({TYPE, f"application/{TYPE}"})
_HEADER_CACHE_SIZE: Final = 128
_QUICK_ALGORITHMS: Final = frozenset({"ES256", "EdDSA"})
"""The algorithms with which an event loop may verify a token itself: about 0.1 ms."""
_MAX_QUICK_CHARS: Final = 1500
"""The longest token that an event loop verifies itself: one with 2 KiB of extra claims can take 0.9 ms."""
_VARYING_CLAIMS: Final = ("exp", "iat", "jti")
"""The claims in which two tokens for the same request differ."""


class AccessTokenCodec:
    """A signer and reader of the access tokens of this service."""

    def __init__(self, keys: KeySource, own: IssuerNames) -> None:
        """Sign and read with these keys; a token whose `iss` is not one of `own` is not trusted."""
        self._keys = keys
        self._issuers = frozenset(own.all)
        self._headers: dict[KeyId, str] = {}
        # All tokens of one key have the same header.
        self._read_header = lru_cache(_HEADER_CACHE_SIZE)(_read_header)

    def sign(self, token: AccessToken, encrypt_with: EncryptingKey | None = None) -> str:
        """Sign a token with the current signing key, and encrypt it if a key for that is given."""
        text = self._sign(orjson.dumps(to_claims(token)))
        if encrypt_with is not None:
            text = encrypt_with.encrypt(text)
        return _not_too_long(text)

    def fixed_claims(self, token: AccessToken) -> bytes:
        """Return the claims of a token, except for its id and times, as JSON without the last brace."""
        claims = to_claims(token)
        for name in _VARYING_CLAIMS:
            del claims[name]
        return orjson.dumps(claims)[:-1]

    def sign_repeated(
        self, fixed_claims: bytes, *, token_id: TokenId, issue_time: datetime, expire_time: datetime
    ) -> str:
        """Sign a token with these claims, and this id and times, with the current signing key."""
        times = int(expire_time.timestamp()), int(issue_time.timestamp())
        claims = b'%b,"exp":%d,"iat":%d,"jti":"%b"}' % (fixed_claims, *times, token_id.encode())
        return _not_too_long(self._sign(claims))

    def _sign(self, claims: bytes) -> str:
        key = self._keys.signing()
        header = self._headers.get(key.key_id)
        if header is None:
            header = base64url(orjson.dumps({"alg": key.algorithm, "typ": TYPE, "kid": key.key_id}))
            self._headers[key.key_id] = header
        message = f"{header}.{base64url(claims)}"
        return f"{message}.{base64url(key.sign(message.encode()))}"

    def is_quick(self, text: str) -> bool:
        """Return whether `read` decrypts nothing, and verifies no signature but one of ES256 or EdDSA.

        The claims of a long token may take longer than its signature.
        """
        if len(text) > _MAX_QUICK_CHARS:
            return len(text) > MAX_TOKEN_CHARS  # `read` rejects a longer text at once
        parts = text.split(".", 5)
        if len(parts) != 3:
            return len(parts) != 5
        try:
            header = self._read_header(parts[0])
        except ValueError:
            return True
        key = None if isinstance(header, Rejected) else self._keys.verifying.get(header["kid"])
        return key is None or key.algorithm in _QUICK_ALGORITHMS

    def read(self, text: str) -> AccessToken | Rejected:
        """Decrypt a token if it is encrypted, verify its signature, and return its claims or a rejection."""
        if len(text) > MAX_TOKEN_CHARS:
            return _malformed("the token is longer than 8 KiB")
        parts = text.split(".")
        if len(parts) == 5:
            return self._read_encrypted(text)
        return self._read_signed(text, parts)

    def _read_encrypted(self, text: str) -> AccessToken | Rejected:
        """Decrypt and read a nested token.

        Every failure to decrypt gets the same answer, so that an attacker does not learn which step failed.
        """
        key_id = read_key_id(text)
        key = self._keys.decrypting(key_id) if key_id is not None else None
        inside = key.decrypt(text) if key is not None else None
        if inside is None:
            return _reject(
                RejectionReason.UNDECRYPTABLE, "the token is encrypted, and this service cannot open it"
            )
        return self._read_signed(inside, inside.split("."))

    def _read_signed(self, text: str, parts: list[str]) -> AccessToken | Rejected:
        if len(parts) != 3:
            return _malformed("the token does not have three parts")
        try:
            header = self._read_header(parts[0])
            signature = decode_base64url(parts[2])
        except ValueError:
            return _malformed("a part of the token is not canonical base64url of JSON")
        if isinstance(header, Rejected):
            return header
        key = self._keys.verifying.get(header["kid"])
        if key is None:
            return _reject(
                RejectionReason.UNKNOWN_KEY, "the token names a key that this service does not have"
            )
        if key.algorithm != header["alg"]:
            return _reject(RejectionReason.ALGORITHM_NOT_ALLOWED, "the token's key is for another algorithm")
        message = text[: len(parts[0]) + 1 + len(parts[1])].encode("ascii", "replace")
        if not key.verify(message, signature):
            return _reject(RejectionReason.BAD_SIGNATURE, "the signature does not verify")
        return self._read_claims(parts[1], key.key_id)

    def _read_claims(self, payload: str, key_id: KeyId) -> AccessToken | Rejected:
        try:
            claims = parse_claims(decode_base64url(payload))
            token = from_claims(claims, key_id)
        except ValueError as error:
            return _malformed(f"claims: {error}")
        if token.issuer not in self._issuers:
            return _reject(RejectionReason.UNTRUSTED_ISSUER, "the token's issuer is not trusted here")
        return token


def _read_header(text: str) -> JsonObject | Rejected:
    """Parse a JOSE header and check everything in it that does not depend on our keys.

    Raises ValueError if the header is not canonical base64url of a JSON object.
    """
    header = parse_object(decode_base64url(text))
    return _check_header(header) or header


def _check_header(header: JsonObject) -> Rejected | None:
    algorithm, kid, type_ = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str):
        return _malformed("header: alg must be a text")
    if "crit" in header or "b64" in header:
        return _malformed("header: crit and b64 are not supported")
    if not isinstance(type_, str) or type_.lower() not in _TYPES:
        return _reject(RejectionReason.WRONG_TYPE, "typ is not at+jwt: not an access token")
    if algorithm not in ALGORITHMS:
        return _reject(RejectionReason.ALGORITHM_NOT_ALLOWED, "alg is not an algorithm of this service")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KEY_ID_CHARS:
        return _malformed("header: kid must be a text")
    return None


def to_claims(token: AccessToken) -> JsonObject:
    """Return the claims of a token as they are signed, the extra claims among them."""
    claims: JsonObject = {
        "iss": token.issuer,
        "sub": token.subject,
        "aud": list(token.audiences),
        "exp": int(token.expire_time.timestamp()),
        "iat": int(token.issue_time.timestamp()),
        "jti": token.token_id,
        "client_id": token.client_id,
    }
    if token.scopes:
        claims["scope"] = " ".join(token.scopes)
    if token.not_before is not None:
        claims["nbf"] = int(token.not_before.timestamp())
    if token.session_id is not None:
        claims["sid"] = token.session_id
    if token.auth_time is not None:
        claims["auth_time"] = int(token.auth_time.timestamp())
    if token.actors:
        claims["act"] = _to_act(token.actors)
    if token.may_act is not None:
        claims["may_act"] = _to_act((token.may_act,))
    bound = {CERTIFICATE_BINDING: token.certificate_sha256, KEY_BINDING: token.key_sha256}
    if confirmations := {method: base64url(value) for method, value in bound.items() if value is not None}:
        claims["cnf"] = confirmations
    if token.generations:
        claims["gen"] = {principal: str(g) for principal, g in token.generations.items()}
    # The claims of the service come last, so that no extra claim can replace them.
    return {**token.claims, **claims}


def _to_act(actors: tuple[Actor, ...]) -> JsonObject:
    """Return an `act` claim (RFC 8693 section 4.1), with the current actor outermost."""
    act: JsonObject = {}
    for actor in reversed(actors):
        outer: JsonObject = {"sub": actor.subject}
        if actor.client_id is not None:
            outer["client_id"] = actor.client_id
        if act:
            outer["act"] = act
        act = outer
    return act


def _not_too_long(text: str) -> str:
    """Return the token. Raises InvalidRequestError if Verify would reject it for its length."""
    if len(text) > MAX_TOKEN_CHARS:
        raise InvalidRequestError.of("claims", f"make the token longer than {MAX_TOKEN_CHARS} characters")
    return text


def _malformed(detail: str) -> Rejected:
    return _reject(RejectionReason.MALFORMED, detail)


def _reject(reason: RejectionReason, detail: str) -> Rejected:
    return Rejected(reason=reason, detail=detail)
