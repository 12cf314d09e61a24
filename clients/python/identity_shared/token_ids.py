"""The id of a refused token, as an error names it: callers repeat a call only for their own token."""

import base64
import hashlib
from typing import Any, Final

from identity_shared.strict import decode_base64url, parse_object

ID_SHA256: Final = "token_id_sha256"
"""The key in the metadata of ErrorInfo, and the parameter of `WWW-Authenticate`, that holds the hash."""

_MAX_TOKEN_CHARS: Final = 8 * 1024


def unverified_token_id(token: str) -> str:
    """Return the `jti` that a compact JWS claims to have, without verifying anything.

    Returns "" if the token has none or cannot be read, for instance because it is encrypted.
    """
    if len(token) > _MAX_TOKEN_CHARS:
        return ""
    try:
        token_id = unverified_claims(token).get("jti")
    except ValueError:
        return ""
    return token_id if isinstance(token_id, str) else ""


def unverified_claims(token: str) -> dict[str, Any]:
    """Return the claims of a compact JWS, without verifying anything.

    Raises ValueError if they cannot be read, for instance because the token is encrypted.
    """
    _, claims, _ = token.split(".")
    return parse_object(decode_base64url(claims))


def hash_token_id(token_id: str) -> str:
    """Return the SHA-256 of a `jti` as base64url without padding; "" for an empty id."""
    if not token_id:
        return ""
    digest = hashlib.sha256(token_id.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
