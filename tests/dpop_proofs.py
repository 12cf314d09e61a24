"""Builds DPoP proofs (RFC 9449), valid and invalid ones. The module asserts nothing."""

from datetime import datetime
from secrets import token_urlsafe
from typing import Any, Final

from tests.jwts import Part, PartyKey

TOKEN_URI: Final = "https://identity.example/oauth2/token"
"""The `htu` of a proof unless the test passes another one."""


def dpop_header(key: PartyKey, **changes: object) -> dict[str, Any]:
    """Return the header of a valid proof with these changes; a member whose value is None is left out."""
    jwk = key.public(kid=None, alg=None, use=None)
    values = {"typ": "dpop+jwt", "alg": key.algorithm, "jwk": jwk} | changes
    return {name: value for name, value in values.items() if value is not None}


def dpop_claims(now: datetime, **changes: object) -> dict[str, Any]:
    """Return the claims of a valid proof with these changes; a claim whose value is None is left out."""
    values: dict[str, Any] = {
        "jti": token_urlsafe(8),
        "htm": "POST",
        "htu": TOKEN_URI,
        "iat": int(now.timestamp()),
    } | changes
    return {name: value for name, value in values.items() if value is not None}


def dpop_proof(key: PartyKey, now: datetime, header: Part | None = None, **changes: object) -> str:
    """Return a signed proof that is valid except for `header` and the changed claims."""
    return key.jwt(dpop_claims(now, **changes), dpop_header(key) if header is None else header)
