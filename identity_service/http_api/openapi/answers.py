"""The answers of the HTTP API, as an OpenAPI description names them."""

from collections.abc import Mapping
from typing import Final

from identity_service.domain.tokens import TokenType
from identity_service.http_api.oauth import errors
from identity_service.http_api.openapi.requests import Json

_HEADERS: Final[Json] = {
    "X-Request-Id": {
        "description": "The id by which log lines and audit events name the request.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    }
}
RETRY_AFTER: Final[Json] = {
    "Retry-After": {
        "description": "The seconds to wait before the next try.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}
_CHALLENGE: Final[Json] = {
    "WWW-Authenticate": {
        "description": "One challenge.",
        "required": True,
        "schema": {"type": "string", "pattern": "^(Basic|Bearer|DPoP) "},
    }
}
_NONCE: Final[Json] = {
    errors.DPOP_NONCE: {
        "description": "The nonce that the next DPoP proof must have, if proofs need one.",
        "schema": {"type": "string"},
    }
}
_NUMBER: Final[Json] = {"type": "integer"}
_TEXT: Final[Json] = {"type": "string"}
_TOKEN_TYPE: Final[Json] = {"enum": [type_.value for type_ in TokenType]}
_TEXTS: Final[Json] = {"type": "array", "items": _TEXT}
_URL: Final[Json] = {"type": "string", "format": "uri"}


def answer(
    description: str, content: Mapping[str, object] | None = None, headers: Mapping[str, object] | None = None
) -> Json:
    """Return an answer; `content` maps a media type to a schema, None = without a body."""
    found: Json = {"description": description, "headers": {**_HEADERS, **(headers or {})}}
    if content is not None:
        found["content"] = {media: {"schema": schema} for media, schema in content.items()}
    return found


def json_answer(description: str, schema: str, headers: Mapping[str, object] | None = None) -> Json:
    """Return an answer that is JSON with the schema of this name."""
    return answer(description, {"application/json": {"$ref": f"#/components/schemas/{schema}"}}, headers)


def error(description: str, *codes: str, headers: Mapping[str, object] | None = None) -> Json:
    """Return an answer that is one of these OAuth errors."""
    schema = {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {"enum": list(codes)},
            "error_description": {"type": "string", "pattern": r"^[ !#-\[\]-~]*$"},
        },
    }
    return answer(description, {"application/json": schema}, headers)


def with_nonce(found: Json) -> Json:
    """Return an answer that may have the next nonce for DPoP proofs."""
    headers = found["headers"]
    return {**found, "headers": {**headers, **_NONCE}} if isinstance(headers, dict) else found


def link(operation: str, member: str, description: str) -> Json:
    """Return a link from an answer to an operation, whose form has a member of the answer as its token."""
    return {
        "operationId": operation,
        "requestBody": {"token": f"$response.body#/{member}"},
        "description": description,
    }


RESPONSES: Final[Json] = {
    "Malformed": error("The request is not well-formed.", errors.INVALID_REQUEST),
    "NotAuthenticated": error("The client is not authenticated.", errors.INVALID_CLIENT, headers=_CHALLENGE),
    "TooSlow": error("The request did not arrive within `request_timeout`.", "request_timeout"),
    "TooLarge": error("The body is longer than 64 KiB.", "request_too_large"),
    "Busy": error(
        "Too many open requests, or too many wrong credentials.",
        errors.TEMPORARILY_UNAVAILABLE,
        headers=RETRY_AFTER,
    ),
    "HeadersTooLarge": error(
        "The headers are longer than 32 KiB, with 32 bytes more for each.", "headers_too_large"
    ),
    "Bug": error("A bug; the log has an event `http_bug`.", errors.SERVER_ERROR),
    "NotReady": error(
        "The process is not ready, stops, or cannot reach its store.",
        errors.TEMPORARILY_UNAVAILABLE,
        headers=RETRY_AFTER,
    ),
}
"""The answers that several operations have, by the names that they have in the description."""


def _shared(name: str) -> Json:
    return {"$ref": f"#/components/responses/{name}"}


REFUSED: Final[Json] = {
    "400": _shared("Malformed"),
    "408": _shared("TooSlow"),
    "413": _shared("TooLarge"),
    "429": _shared("Busy"),
    "431": _shared("HeadersTooLarge"),
    "500": _shared("Bug"),
}
"""The answers of every operation to requests that are not served."""
NOT_READY: Final[Json] = {"503": _shared("NotReady")}
TOKEN_ERRORS: Final[Json] = {
    "400": error(
        "The request is not well-formed, or asks for something that the client may not have.",
        errors.INVALID_REQUEST,
        errors.INVALID_GRANT,
        errors.UNAUTHORIZED_CLIENT,
        errors.UNSUPPORTED_GRANT_TYPE,
        errors.INVALID_SCOPE,
        errors.INVALID_TARGET,
        errors.INVALID_DPOP_PROOF,
        errors.USE_DPOP_NONCE,
        headers=_NONCE,
    ),
    "401": _shared("NotAuthenticated"),
}
INTROSPECTION_ERRORS: Final[Json] = {
    "400": error(
        "The request is not well-formed, or the client lacks the scope `identity.verify`.",
        errors.INVALID_REQUEST,
        errors.UNAUTHORIZED_CLIENT,
    ),
    "401": error(
        "The client is not authenticated, or its access token or DPoP proof is not valid.",
        errors.INVALID_CLIENT,
        errors.INVALID_TOKEN,
        errors.INVALID_DPOP_PROOF,
        errors.USE_DPOP_NONCE,
        headers=_CHALLENGE | _NONCE,
    ),
    "403": error(
        "The access token lacks the scope `identity.verify`.", errors.INSUFFICIENT_SCOPE, headers=_CHALLENGE
    ),
}
REVOCATION_ERRORS: Final[Json] = {
    "400": error(
        "The request is not well-formed, or the token is one that the client cannot revoke here.",
        errors.INVALID_REQUEST,
        errors.UNAUTHORIZED_CLIENT,
        errors.UNSUPPORTED_TOKEN_TYPE,
    ),
    "401": _shared("NotAuthenticated"),
}


def _object(required: str, **properties: object) -> Json:
    """Return the schema of an object; `required` are the names that it must have, separated by blanks."""
    return {"type": "object", "required": required.split(), "properties": properties}


def _all(names: str, schema: Json) -> Json:
    """Return the properties with these names, which are separated by blanks; all have the same schema."""
    return dict.fromkeys(names.split(), schema)


SCHEMAS: Final[Json] = {
    "Tokens": _object(
        "access_token token_type expires_in scope",
        access_token=_TEXT,
        token_type=_TOKEN_TYPE,
        expires_in={"type": "integer", "minimum": 1, "description": "seconds"},
        scope={"type": "string", "description": "The scopes that the token really has."},
        refresh_token={"type": "string", "minLength": 1, "description": "Absent if there is none."},
        issued_token_type={"type": "string", "description": "After a token exchange."},
        resource={"type": ["string", "array"], "items": _TEXT, "description": "After an ID-JAG."},
    ),
    "Introspection": {
        "oneOf": [
            {
                "title": "inactive",
                "type": "object",
                "required": ["active"],
                "properties": {"active": {"const": False}},
                "additionalProperties": False,
            },
            {
                "title": "active",
                "description": "The claims of the token, extra claims among them.",
                **_object(
                    "active iss sub aud client_id exp",
                    active={"const": True},
                    token_type={**_TOKEN_TYPE, "description": "Absent for a refresh token."},
                    aud=_TEXTS,
                    **_all("iss sub client_id scope jti sid", _TEXT),
                    **_all("exp iat nbf auth_time", _NUMBER),
                    **_all("act may_act cnf", {"type": "object"}),
                ),
            },
        ]
    },
    "KeySet": _object(
        "keys",
        keys={
            "type": "array",
            "items": _object("kty kid alg use", **_all("kty kid alg", _TEXT), use={"const": "sig"}),
        },
    ),
    "Metadata": _object(
        "issuer token_endpoint jwks_uri grant_types_supported response_types_supported",
        **_all("issuer token_endpoint introspection_endpoint revocation_endpoint jwks_uri", _URL),
        **_all("grant_types_supported scopes_supported token_endpoint_auth_methods_supported", _TEXTS),
        response_types_supported={"type": "array", "maxItems": 0},
    ),
}
