"""The claims of access tokens (RFC 9068), read strictly from JSON; `access_tokens.py` writes them.

The module verifies no signature and trusts no issuer.
"""

from typing import Final

from identity_service.domain.ids import KeyId, PrincipalId, SessionId, TokenId
from identity_service.domain.log import Generation
from identity_service.domain.tokens import MAX_ACTORS, AccessToken, Actor
from identity_service.jose.claims import read_audience, read_text, read_time
from identity_shared.strict import JsonObject, decode_base64url

CERTIFICATE_BINDING: Final = "x5t#S256"
"""The confirmation method of RFC 8705: the holder shows a client certificate."""
KEY_BINDING: Final = "jkt"
"""The confirmation method of RFC 9449: the holder shows a proof by a key."""
_FIELD_CLAIMS: Final = frozenset(
    {"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "scope", "sid", "auth_time", "act", "gen"}
    | {"cnf", "may_act"}
)
"""The claims that have a field of their own in AccessToken; all others are in its `claims`."""


def from_claims(claims: JsonObject, key_id: KeyId) -> AccessToken:
    """Return the token with these claims.

    Raises ValueError, which names the claim that is missing or of the wrong type.
    """
    scope = read_text(claims, "scope") if "scope" in claims else ""
    bound = _confirmations(claims["cnf"]) if "cnf" in claims else {}
    return AccessToken(
        issuer=read_text(claims, "iss"),
        subject=PrincipalId(read_text(claims, "sub")),
        audiences=_audiences(claims.get("aud")),
        client_id=PrincipalId(read_text(claims, "client_id")),
        scopes=tuple(scope.split(" ")) if scope else (),
        token_id=TokenId(read_text(claims, "jti")),
        session_id=SessionId(read_text(claims, "sid")) if "sid" in claims else None,
        issue_time=read_time(claims, "iat"),
        expire_time=read_time(claims, "exp"),
        not_before=read_time(claims, "nbf") if "nbf" in claims else None,
        auth_time=read_time(claims, "auth_time") if "auth_time" in claims else None,
        actors=_actors(claims["act"]) if "act" in claims else (),
        may_act=_may_act(claims["may_act"]) if "may_act" in claims else None,
        generations=_generations(claims["gen"]) if "gen" in claims else {},
        certificate_sha256=bound.get(CERTIFICATE_BINDING),
        key_sha256=bound.get(KEY_BINDING),
        claims={}
        if claims.keys() <= _FIELD_CLAIMS
        else {name: value for name, value in claims.items() if name not in _FIELD_CLAIMS},
        key_id=key_id,
    )


def _audiences(value: object) -> tuple[str, ...]:
    audience = read_audience(value)
    return (audience,) if isinstance(audience, str) else audience


def _actors(value: object) -> tuple[Actor, ...]:
    actors: list[Actor] = []
    while value is not None:
        if not isinstance(value, dict) or len(actors) == MAX_ACTORS:
            raise ValueError("act must be a chain of objects")
        client_id = PrincipalId(read_text(value, "client_id")) if "client_id" in value else None
        actors.append(Actor(subject=PrincipalId(read_text(value, "sub")), client_id=client_id))
        value = value.get("act")
    return tuple(actors)


def _may_act(value: object) -> Actor:
    """Return the actor in a `may_act` claim (RFC 8693 section 4.4).

    A member that this service does not know may be a condition, so it is refused rather than ignored.
    """
    if not isinstance(value, dict) or not value.keys() <= {"sub", "client_id"}:
        raise ValueError("may_act must hold sub, and client_id at most")
    (actor,) = _actors(value)
    return actor


def _generations(value: object) -> dict[PrincipalId, Generation]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("gen must map principals to generations")
    return {PrincipalId(principal): Generation.parse(text) for principal, text in value.items()}


def _confirmations(value: object) -> dict[str, bytes]:
    """Return the thumbprint of each confirmation method in a `cnf` claim.

    A method that this service does not know is refused rather than ignored (RFC 7800).
    """
    if not isinstance(value, dict) or not value or not value.keys() <= {CERTIFICATE_BINDING, KEY_BINDING}:
        raise ValueError("cnf must hold x5t#S256 or jkt, and nothing else")
    thumbprints = {method: decode_base64url(read_text(value, method)) for method in value}
    if any(len(thumbprint) != 32 for thumbprint in thumbprints.values()):
        raise ValueError("cnf must hold a SHA-256")
    return thumbprints
