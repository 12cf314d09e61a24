"""DPoP proofs (RFC 9449): right ones, and every kind of wrong one. The module asserts nothing."""

from datetime import datetime
from secrets import token_urlsafe
from typing import Any, Final

from tests.jwts import Part, PartyKey

TOKEN_URI: Final = "https://identity.example/oauth2/token"
"""The URI that a proof is for unless it says otherwise."""


def dpop_header(key: PartyKey, **changes: object) -> dict[str, Any]:
    """The header of a right proof; None = without that member."""
    jwk = key.public(kid=None, alg=None, use=None)
    values = {"typ": "dpop+jwt", "alg": key.algorithm, "jwk": jwk} | changes
    return {name: value for name, value in values.items() if value is not None}


def dpop_claims(now: datetime, **changes: object) -> dict[str, Any]:
    """Return the claims of a valid proof; a claim whose argument is None is left out."""
    values: dict[str, Any] = {
        "jti": token_urlsafe(8),
        "htm": "POST",
        "htu": TOKEN_URI,
        "iat": int(now.timestamp()),
    } | changes
    return {name: value for name, value in values.items() if value is not None}


def dpop_proof(key: PartyKey, now: datetime, header: Part | None = None, **changes: object) -> str:
    """A right proof but for its header, if one is given, and the changes of its claims."""
    return key.jwt(dpop_claims(now, **changes), dpop_header(key) if header is None else header)
