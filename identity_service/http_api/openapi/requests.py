"""The forms and credentials of requests, as an OpenAPI description names them."""

from collections.abc import Mapping
from typing import Final

from identity_service.domain.grants import SCOPE_VERIFY
from identity_service.domain.tokens import MAX_TOKEN_CHARS
from identity_service.http_api.oauth import token
from identity_service.http_api.oauth.clients import ASSERTION_TYPE, MAX_CLIENT_ID_CHARS, MAX_SECRET_CHARS
from identity_service.jose.dpop import MAX_PROOF_CHARS

Json = dict[str, object]

BASIC: Final = "clientSecretBasic"
"""The name of the security scheme of a client's secret in a header."""
BEARER: Final = "accessToken"
"""The name of the security scheme of an access token in a header."""
DPOP: Final = "boundAccessToken"
"""The name of the security scheme of an access token that is bound to a key, with a proof."""
CERTIFICATE: Final = "clientCertificate"
"""The name of the security scheme of a client's certificate."""
BINDING_PROOF: Final[Json] = {
    "name": "DPoP",
    "in": "header",
    "description": "A proof by the key that the tokens shall be bound to (RFC 9449).",
    "schema": {"type": "string", "maxLength": MAX_PROOF_CHARS},
}
USE_PROOF: Final[Json] = {
    "name": "DPoP",
    "in": "header",
    "description": "The proof of a bound access token (RFC 9449); without such a token it is ignored.",
    "schema": {"type": "string"},
}
_NO_CONTROLS: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$"


def _text(description: str, limit: int | None = None, **more: object) -> Json:
    """Return the schema of a text that is not empty, and has at most `limit` characters."""
    bound = {} if limit is None else {"maxLength": limit}
    return {"type": "string", "minLength": 1, **bound, "description": description, **more}


def _optional(description: str, limit: int | None = None) -> Json:
    """Return the schema of a text that counts as absent if it is empty."""
    return _text(description, limit, minLength=0)


def _name(description: str, limit: int) -> Json:
    """Return the schema of a text without control characters."""
    return _text(description, limit, pattern=_NO_CONTROLS)


def _repeatable(description: str) -> Json:
    return {"type": "array", "items": {"type": "string"}, "description": description}


_CLIENT: Final = {
    "client_id": _name("The id of the client.", MAX_CLIENT_ID_CHARS),
    "client_secret": _optional("`client_secret_post`: the secret of the client.", MAX_SECRET_CHARS),
    "client_assertion_type": {"const": ASSERTION_TYPE, "description": "`private_key_jwt`"},
    "client_assertion": _text("`private_key_jwt`: a JWT that the client has signed.", MAX_TOKEN_CHARS),
}
"""The parameters that name or authenticate a client."""
_TOGETHER: Final[Mapping[str, list[str]]] = {
    "client_secret": ["client_id"],
    "client_assertion": ["client_assertion_type"],
    "client_assertion_type": ["client_assertion"],
    "actor_token": ["actor_token_type"],
    "actor_token_type": ["actor_token"],
}
"""The parameters that a parameter needs beside it."""
_WANTED: Final = {
    "scope": _optional("The wanted scopes, separated by spaces; absent = those of the client."),
    "audience": _repeatable("A wanted audience (RFC 8693)."),
    "resource": _repeatable("A wanted audience, under the name of RFC 8707."),
}
"""The parameters that say which access token is wanted."""


def _form(title: str, required: tuple[str, ...], properties: Json) -> Json:
    """Return the schema of a form, in which at most one method authenticates the client."""
    return {
        "title": title,
        "type": "object",
        "required": list(required),
        "properties": properties,
        "dependentRequired": {name: others for name, others in _TOGETHER.items() if name in properties},
        "not": {"required": ["client_secret", "client_assertion"]},
        "additionalProperties": {"type": "string", "description": "Ignored, but must not be repeated."},
    }


def _grant(grant_type: str, more: Mapping[str, object], required: tuple[str, ...]) -> Json:
    """Return the schema of the form of a grant."""
    properties = {"grant_type": {"const": grant_type}, **more, **_WANTED, **_CLIENT}
    return _form(grant_type.rpartition(":")[2], ("grant_type", *required), properties)


_TOKEN_TYPE: Final = {"enum": [token.ACCESS_TOKEN_TYPE, "urn:ietf:params:oauth:token-type:jwt"]}
_PASSWORD: Final = {
    "username": _name("The name of the user.", token.MAX_USERNAME_CHARS),
    "password": _text("The password of the user.", token.MAX_PASSWORD_CHARS, format="password"),
}
_EXCHANGE: Final = {
    "subject_token": _text("The access token of the subject.", MAX_TOKEN_CHARS),
    "subject_token_type": _TOKEN_TYPE,
    "actor_token": _text("The access token of the actor.", MAX_TOKEN_CHARS),
    "actor_token_type": _TOKEN_TYPE,
    "requested_token_type": _TOKEN_TYPE,
}
_ASSERTION: Final = {
    "assertion": _text("A token of a trusted issuer; an ID-JAG needs client authentication.", MAX_TOKEN_CHARS)
}
TOKEN_FORM: Final[Json] = {
    "oneOf": [
        _grant(token.CLIENT_CREDENTIALS, {}, ()),
        _grant(token.PASSWORD, _PASSWORD, ("username", "password")),
        _grant(
            token.REFRESH_TOKEN, {"refresh_token": _text("The token of the last answer.")}, ("refresh_token",)
        ),
        _grant(token.TOKEN_EXCHANGE, _EXCHANGE, ("subject_token", "subject_token_type")),
        _grant(token.JWT_BEARER, _ASSERTION, ("assertion",)),
    ]
}
"""The form of the token endpoint: one for each grant."""


def token_form(title: str, hint: str) -> Json:
    """Return the schema of a form that names a token; `hint` describes `token_type_hint`."""
    named = {"token": _text("An access token or a refresh token."), "token_type_hint": _optional(hint)}
    return _form(title, ("token",), {**named, **_CLIENT})


def form(schema: str, example: Json) -> Json:
    """Return a request body that is a form with the schema of this name."""
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}
    return {"required": True, "content": {"application/x-www-form-urlencoded": content}}


def security_schemes(token_url: str) -> Json:
    """Return the credentials that a header can hold; a form can hold others."""
    flow = {"tokenUrl": token_url, "scopes": {SCOPE_VERIFY: "Verify and introspect tokens."}}
    return {
        BASIC: {
            "type": "http",
            "scheme": "basic",
            "description": "`client_secret_basic`: the id and the secret of a client, each form-encoded.",
        },
        BEARER: {
            "type": "oauth2",
            "description": "An access token for the service's own audience.",
            "flows": {"clientCredentials": flow},
        },
        DPOP: {
            "type": "http",
            "scheme": "dpop",
            "description": "Such a token that is bound to a key, with a proof in the header DPoP (RFC 9449).",
        },
        CERTIFICATE: {
            "type": "mutualTLS",
            "description": "`tls_client_auth` (RFC 8705): the form has `client_id` alone. Only at the URLs "
            "in `mtls_endpoint_aliases` of the metadata, if there are some.",
        },
    }
