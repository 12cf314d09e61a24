"""Reads access tokens as a verifier does: a compact JWS (RFC 7515) with the claims of RFC 9068.

The algorithm is taken from the key, never from the token, and `kid` alone selects the key (RFC 8725). This
module makes no decision that depends on the time or on a revocation.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from identity_client.values import Actor, Verified
from identity_client.verifying_keys import KEY_TYPES, VerifyingKey
from identity_shared.strict import JsonObject, decode_base64url, parse_object

MAX_TOKEN_CHARS: Final = 8 * 1024
_MAX_KEY_ID_CHARS: Final = 256
_MAX_ACTORS: Final = 8
_MAX_TIME: Final = 253402300799
"""The end of the year 9999, in Unix seconds."""
_TYPES: Final = ("at+jwt", "application/at+jwt")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,18}")
_CERTIFICATE: Final = "x5t#S256"
"""The confirmation method of RFC 8705: the holder shows a client certificate."""
_KEY: Final = "jkt"
"""The confirmation method of RFC 9449: the holder shows a proof by a key."""
_MAPPED_CLAIMS: Final = frozenset(
    {
        *("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope"),
        *("sid", "auth_time", "act", "may_act", "gen", "cnf"),
    }
)
"""The claims that have a field in `Verified` or `SignedToken`; all others go into `Verified.claims`."""
_NO_GENERATIONS: Final[Mapping[str, tuple[int, str]]] = MappingProxyType({})


class RejectedError(ValueError):
    """The token is not valid. The message holds no part of the token.

    Attributes:
        reason: a name of identityapi.v1.RejectionReason without its prefix.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(slots=True, kw_only=True)
class SignedToken:
    """A token whose signature was verified; whether it has expired or was revoked is not yet decided."""

    claims: Verified
    """The claims, as `verify` returns them; replaced by equal ones with a newer revision."""
    key_id: str
    """The `kid` of the key that signed the token."""
    valid_from: float
    """The `iat`, or `nbf` if that is later, in Unix seconds by the service's clock."""
    valid_until: float
    """The `exp`, in Unix seconds by the service's clock."""
    generations: Mapping[str, tuple[int, str]]
    """The claim `gen`: a map from principals to the number and link of their generation."""
    principals: tuple[str, ...] = field(init=False)
    """The principals whose raised generation revokes this token: `*`, the subject, the client, the signing
    key, the actors, and the principals in `gen`; some may occur twice."""
    first_seen: float = 0.0
    """The time at which the signature was verified, in seconds by the boot clock."""

    def __post_init__(self) -> None:
        claims = self.claims
        self.principals = ("*", claims.subject, claims.client_id, key_principal(self.key_id))
        if claims.actors or self.generations:
            acting = (name for actor in claims.actors for name in (actor.subject, actor.client_id) if name)
            self.principals = (*self.principals, *acting, *self.generations)


KEY: Final = "*key:"
"""The prefix of a principal that stands for a key; the `kid` follows."""


@lru_cache(maxsize=64)
def key_principal(key_id: str) -> str:
    """Return the principal whose generation is raised when the key with this `kid` is retired."""
    return f"{KEY}{key_id}"


def read(
    text: str, keys: Mapping[str, VerifyingKey], issuers: frozenset[str], revision: str = ""
) -> SignedToken:
    """Verify the signature of an access token and read its claims.

    Args:
        text: the token as received, a compact JWS of at most 8 KiB.
        keys: `kid` → published key.
        issuers: the values of `iss` that are accepted.
        revision: the revision to put into `Verified.revision`.

    Raises RejectedError if the token is not valid, and its subclasses UnknownKeyError if no key has its
    `kid`, and UntrustedIssuerError if a key has signed it for another issuer.
    """
    message, _, last = text.rpartition(".")
    first, dot, middle = message.partition(".")
    if len(text) > MAX_TOKEN_CHARS or not dot or "." in middle:
        if len(text) <= MAX_TOKEN_CHARS and text.count(".") == 4:
            raise RejectedError("UNDECRYPTABLE", "the token is encrypted, and no key here opens it")
        raise RejectedError("MALFORMED", "the token does not have three parts, or is longer than 8 KiB")
    try:
        algorithm, key_id = _read_header(first)
        signature = decode_base64url(last)
    except RejectedError:
        raise
    except ValueError:
        raise RejectedError("MALFORMED", "a part of the token is not canonical base64url of JSON") from None
    key = keys.get(key_id)
    if key is None:
        raise UnknownKeyError(key_id)
    if key.algorithm != algorithm:
        raise RejectedError("ALGORITHM_NOT_ALLOWED", "the token's key is for another algorithm")
    if not key.verify(message.encode("ascii", "replace"), signature):
        raise RejectedError("BAD_SIGNATURE", "the signature does not verify")
    try:
        token = _from_claims(parse_object(decode_base64url(middle)), key_id, revision)
    except ValueError as error:
        raise RejectedError("MALFORMED", f"claims: {error}") from None
    if token.claims.issuer not in issuers:
        raise UntrustedIssuerError(token.claims.issuer)
    return token


class UnknownKeyError(RejectedError):
    """No published key has the `kid` of the token."""

    def __init__(self, key_id: str) -> None:
        super().__init__("UNKNOWN_KEY", "the token names a key that is not published")
        self.key_id = key_id


class UntrustedIssuerError(RejectedError):
    """A published key has signed the token, but its `iss` is not accepted."""

    def __init__(self, issuer: str) -> None:
        super().__init__("UNTRUSTED_ISSUER", "the token's issuer is not trusted here")
        self.issuer = issuer


@lru_cache(maxsize=64)
def _read_header(part: str) -> tuple[str, str]:
    """Return `alg` and `kid`. All tokens of one key have the same header, so the result is cached."""
    header = parse_object(decode_base64url(part))
    algorithm, key_id, type_ = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or "crit" in header or "b64" in header:
        raise RejectedError("MALFORMED", "header: alg must be a text; crit and b64 are not supported")
    if not isinstance(type_, str) or type_.lower() not in _TYPES:
        raise RejectedError("WRONG_TYPE", "typ is not at+jwt: not an access token")
    if algorithm not in KEY_TYPES:
        raise RejectedError("ALGORITHM_NOT_ALLOWED", "alg is not an algorithm of published keys")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= _MAX_KEY_ID_CHARS:
        raise RejectedError("MALFORMED", "header: kid must be a text")
    return algorithm, key_id


def _from_claims(claims: JsonObject, key_id: str, revision: str) -> SignedToken:
    issued, expires = _seconds(claims, "iat"), _seconds(claims, "exp")
    bound = _confirmations(claims["cnf"]) if "cnf" in claims else {}
    verified = Verified(
        issuer=_text(claims, "iss"),
        subject=_text(claims, "sub"),
        audiences=_audiences(claims.get("aud")),
        client_id=_text(claims, "client_id"),
        scopes=_scopes(_text(claims, "scope")) if "scope" in claims else (),
        token_id=_text(claims, "jti"),
        session_id=_text(claims, "sid") if "sid" in claims else "",
        issue_time=datetime.fromtimestamp(issued, UTC),
        expire_time=datetime.fromtimestamp(expires, UTC),
        auth_time=datetime.fromtimestamp(_seconds(claims, "auth_time"), UTC)
        if "auth_time" in claims
        else None,
        actors=_actors(claims["act"]) if "act" in claims else (),
        may_act=_may_act(claims["may_act"]) if "may_act" in claims else None,
        claims={}
        if claims.keys() <= _MAPPED_CLAIMS
        else {n: value for n, value in claims.items() if n not in _MAPPED_CLAIMS},
        certificate_sha256=bound.get(_CERTIFICATE, b""),
        dpop_key_sha256=bound.get(_KEY, b""),
        revision=revision,
    )
    return SignedToken(
        claims=verified,
        key_id=key_id,
        valid_from=max(issued, _seconds(claims, "nbf")) if "nbf" in claims else issued,
        valid_until=expires,
        generations=_generations(claims["gen"]) if "gen" in claims else _NO_GENERATIONS,
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text")
    return value


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    """Return a NumericDate (RFC 7519). The exact type is compared, since True is an int as well."""
    value = claims.get(name)
    if (type(value) is int or type(value) is float) and 0 <= value <= _MAX_TIME:
        return value
    raise ValueError(f"{name} must be a date in seconds")


@lru_cache(maxsize=256)
def _scopes(text: str) -> tuple[str, ...]:
    """Split a list of scopes. Many tokens have the same one, so the result is cached."""
    return tuple(text.split(" "))


def _audiences(value: object) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(one, str) for one in values):
        raise ValueError("aud must be a text or a list of texts")
    return tuple(values)


def _actors(value: object) -> tuple[Actor, ...]:
    actors: list[Actor] = []
    while value is not None:
        if not isinstance(value, dict) or len(actors) == _MAX_ACTORS:
            raise ValueError("act must be a chain of objects")
        client_id = _text(value, "client_id") if "client_id" in value else ""
        actors.append(Actor(subject=_text(value, "sub"), client_id=client_id))
        value = value.get("act")
    return tuple(actors)


def _may_act(value: object) -> Actor:
    """Return the actor that `may_act` permits (RFC 8693 section 4.4).

    Raises ValueError for members that this client does not know: ignoring them would drop a condition.
    """
    if not isinstance(value, dict) or not value.keys() <= {"sub", "client_id"}:
        raise ValueError("may_act must hold sub, and client_id at most")
    return _actors(value)[0]


def _confirmations(value: object) -> dict[str, bytes]:
    """Return the SHA-256 thumbprint of each confirmation method that `cnf` names.

    Raises ValueError for a method that this client does not know (RFC 7800): ignoring it would drop a
    condition.
    """
    if not isinstance(value, dict) or not value or not value.keys() <= {_CERTIFICATE, _KEY}:
        raise ValueError("cnf must hold x5t#S256 or jkt, and nothing else")
    thumbprints = {method: decode_base64url(_text(value, method)) for method in value}
    if any(len(thumbprint) != 32 for thumbprint in thumbprints.values()):
        raise ValueError("cnf must hold a SHA-256")
    return thumbprints


def _generations(value: object) -> dict[str, tuple[int, str]]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("gen must map principals to generations")
    return {principal: _generation(text) for principal, text in value.items()}


def _generation(text: str) -> tuple[int, str]:
    """Parse `<number>.<link>`, or `0` for a generation that was never raised."""
    if text == "0":
        return (0, "")
    number, dot, link = text.partition(".")
    if not (_NUMBER.fullmatch(number) and dot and 0 < len(link) <= 64):
        raise ValueError("gen must hold generations")
    return (int(number), link)
