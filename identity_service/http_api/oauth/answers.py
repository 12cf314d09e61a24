"""Responses as JSON: issued tokens (RFC 6749 section 5.1), introspected tokens (RFC 7662), and errors."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from identity_service.domain.tokens import AccessToken
from identity_service.http_api.messages import HttpResponse
from identity_service.http_api.oauth.errors import DPOP_NONCE, OAuthError
from identity_service.jose.access_tokens import to_claims
from identity_service.services.introspect import LiveRefreshToken
from identity_service.services.token_maker import TokenSet, type_of

NO_STORE: Final = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
_HIDDEN: Final = frozenset({"active", "gen", "token_type", "username"})
"""The claims of a token that are not repeated in its introspection.

`gen` is internal. The others have a meaning of their own there, and an extra claim may have their names.
"""


def json_response(
    content: Mapping[str, object], *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> HttpResponse:
    """Return a response that no cache keeps. JSON escapes every character that is not ASCII."""
    return HttpResponse(
        status=status,
        headers=(("Content-Type", "application/json"), *NO_STORE, *headers),
        body=json.dumps(content, separators=(",", ":")).encode("ascii"),
    )


def error_response(error: OAuthError) -> HttpResponse:
    """Return the response to an error."""
    content = {"error": error.code}
    if error.description:
        content["error_description"] = error.description
    return json_response(content, status=error.status, headers=error.headers)


def token_response(
    tokens: TokenSet, issued_token_type: str | None = None, *, names_resource: bool = False
) -> HttpResponse:
    """Return issued tokens.

    `issued_token_type` is for an exchange (RFC 8693 section 2.2.1). `names_resource` is for an ID-JAG, whose
    draft asks for the granted resources in the form of its claim `resource`: a text, or a list of texts.
    """
    content: dict[str, object] = {
        "access_token": tokens.access_token,
        "token_type": tokens.token_type,
        "expires_in": int((tokens.expire_time - tokens.issue_time).total_seconds()),
        "scope": " ".join(tokens.scopes),
    }
    if tokens.refresh_token is not None:
        content["refresh_token"] = tokens.refresh_token
    if issued_token_type is not None:
        content["issued_token_type"] = issued_token_type
    if names_resource:
        content["resource"] = tokens.audiences[0] if len(tokens.audiences) == 1 else tokens.audiences
    return json_response(content)


def with_nonce(response: HttpResponse, nonce: str | None) -> HttpResponse:
    """Return the response with the nonce that the client's next DPoP proof must have, if there is one."""
    if nonce is None:
        return response
    return replace(response, headers=(*response.headers, (DPOP_NONCE, nonce)))


def inactive_response() -> HttpResponse:
    """Return the only answer to a token that is not valid, whatever the reason (RFC 7662 section 2.2)."""
    return json_response({"active": False})


def access_token_response(token: AccessToken) -> HttpResponse:
    """Return the claims of a valid access token."""
    claims = {name: value for name, value in to_claims(token).items() if name not in _HIDDEN}
    return json_response({"active": True, **claims, "token_type": type_of(token)})


def refresh_token_response(token: LiveRefreshToken, issuer: str) -> HttpResponse:
    """Return the facts of a valid refresh token, without `token_type`: it is not an access token.

    Its audience is this service alone, so that a resource that checks `aud` does not take it for an access
    token.
    """
    session = token.session
    return json_response(
        {
            "active": True,
            "iss": issuer,
            "sub": session.subject,
            "aud": [issuer],
            "client_id": session.client_id,
            "scope": " ".join(token.scopes),
            "exp": int(session.expire_time.timestamp()),
            "sid": session.session_id,
            "auth_time": int(session.auth_time.timestamp()),
        }
    )
