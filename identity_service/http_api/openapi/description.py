"""The OpenAPI description: every path of the HTTP API, and the URLs of one service."""

from collections.abc import Mapping
from functools import partial
from importlib import metadata
from typing import Final

from identity_service.domain.grants import SCOPE_VERIFY
from identity_service.http_api import paths
from identity_service.http_api.oauth import token
from identity_service.http_api.openapi import answers, requests
from identity_service.http_api.openapi.answers import answer, json_answer
from identity_service.http_api.openapi.requests import (
    BASIC,
    BEARER,
    BINDING_PROOF,
    CERTIFICATE,
    DPOP,
    USE_PROOF,
    Json,
)

_ABOUT: Final = (
    "OAuth 2.0, the public signing keys and health probes. Every GET also answers HEAD. Errors are JSON, "
    "except those of a listener or a proxy, such as for a request that is not HTTP."
)
_ANONYMOUS: Final[Json] = {}
"""A security requirement that is met without a header: the form may hold the credential."""
_KEY_HEADERS: Final[Json] = {
    "ETag": {"required": True, "schema": {"type": "string"}},
    "Cache-Control": {"required": True, "schema": {"type": "string", "pattern": "^public, max-age=[0-9]+$"}},
}


def describe(issuer: str) -> Mapping[str, object]:
    """Return the OpenAPI 3.1 document of the service with this issuer."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "identity-service",
            "version": metadata.version("identity-service"),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": paths.url_of(issuer, "")}],
        "paths": {
            paths.TOKEN: {"post": _TOKEN},
            paths.INTROSPECT: {"post": _INTROSPECT},
            paths.REVOKE: {"post": _REVOKE},
            paths.KEYS: {"get": _KEYS},
            paths.AUTHORIZATION_SERVER: {"get": _metadata("authorizationServer", "RFC 8414")},
            paths.OPENID_CONFIGURATION: {
                "get": _metadata("openidConfiguration", "OpenID Connect Discovery 1.0")
            },
            paths.OPENAPI: {"get": _OPENAPI},
            paths.LIVE: {"get": _LIVE},
            paths.READY: {"get": _READY},
        },
        "components": {
            "schemas": {
                **answers.SCHEMAS,
                "TokenForm": requests.TOKEN_FORM,
                "IntrospectionForm": requests.token_form(
                    "introspection", "A refresh token is looked up only with the hint `refresh_token`."
                ),
                "RevocationForm": requests.token_form("revocation", "Not needed."),
            },
            "responses": answers.RESPONSES,
            "securitySchemes": requests.security_schemes(paths.url_of(issuer, paths.TOKEN)),
        },
    }


def _operation(name: str, summary: str, found: Json, *, needs_data: bool = True, **more: object) -> Json:
    """Return an operation.

    Args:
        name: its id.
        summary: a sentence about it.
        found: its answers beside those that all operations have.
        needs_data: whether the answer is 503 until the process has read the change log.
        more: further members.
    """
    responses = {**answers.REFUSED, **(answers.NOT_READY if needs_data else {}), **found}
    return {"operationId": name, "summary": summary, **more, "responses": dict(sorted(responses.items()))}


def _metadata(name: str, standard: str) -> Json:
    found = json_answer("The URLs and abilities of the service.", "Metadata")
    return _operation(name, f"The metadata of the service ({standard}).", {"200": found}, security=[])


_TOKEN: Final = _operation(
    "issueToken",
    "Issue an access token (RFC 6749, RFC 7523, RFC 8693).",
    {
        "200": {
            **answers.with_nonce(json_answer("The tokens.", "Tokens")),
            "links": {"introspect": answers.link("introspectToken", "access_token", "Look it up.")},
        },
        **answers.TOKEN_ERRORS,
    },
    parameters=[BINDING_PROOF],
    requestBody=requests.form("TokenForm", {"grant_type": token.CLIENT_CREDENTIALS}),
    security=[{BASIC: []}, {CERTIFICATE: []}, _ANONYMOUS],
)
_INTROSPECT: Final = _operation(
    "introspectToken",
    "Return whether a token is valid, and what it grants (RFC 7662).",
    {
        "200": answers.with_nonce(json_answer("The facts of the token.", "Introspection")),
        **answers.INTROSPECTION_ERRORS,
    },
    description="Instead of a header, the form may hold the credential of a client with the same scope.",
    parameters=[USE_PROOF],
    requestBody=requests.form("IntrospectionForm", {"token": "eyJhbGciOi..."}),
    security=[{BASIC: []}, {CERTIFICATE: []}, {BEARER: [SCOPE_VERIFY]}, {DPOP: []}],
)
_REVOKE: Final = _operation(
    "revokeToken",
    "Revoke an access token, or the session of a refresh token (RFC 7009).",
    {
        "200": answer("The token is revoked, or is not a token of this service."),
        **answers.REVOCATION_ERRORS,
    },
    description="A client that is not public authenticates itself; a public one sends its `client_id`.",
    requestBody=requests.form("RevocationForm", {"token": "idrt_..."}),
    security=[{BASIC: []}, {CERTIFICATE: []}, _ANONYMOUS],
)
_KEYS: Final = _operation(
    "getKeys",
    "The public signing keys, as a JWK set (RFC 7517).",
    {
        "200": json_answer("The keys.", "KeySet", _KEY_HEADERS),
        "304": answer("The client has these keys.", headers=_KEY_HEADERS),
    },
    parameters=[
        {
            "name": "If-None-Match",
            "in": "header",
            "description": "The ETag of the keys that the client has.",
            "schema": {"type": "string"},
        }
    ],
    security=[],
)
_always = partial(_operation, needs_data=False, security=[])
"""A function that returns the description of an operation which a process answers from its start on."""
_OPENAPI: Final = _always(
    "getDescription",
    "This description.",
    {"200": answer("The description.", {"application/json": {"type": "object", "required": ["openapi"]}})},
)
_LIVE: Final = _always(
    "getLiveness",
    "Whether the process lives.",
    {"200": answer("The process needs no restart.", {"text/plain": {"const": "alive\n"}})},
)
_READY: Final = _always(
    "getReadiness",
    "Whether grpc.health.v1 reports SERVING.",
    {
        "200": answer("The process serves.", {"text/plain": {"const": "ready\n"}}),
        "503": answer(
            "The process has not read the change log to its end, its data is stale, or it stops.",
            {"text/plain": {"const": "not ready\n"}},
            answers.RETRY_AFTER,
        ),
    },
)
