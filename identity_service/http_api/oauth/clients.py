"""Client authentication: which credential a request holds, and by which method (RFC 6749 section 2.3).

The module checks no credential: that is the task of the use case.
"""

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from identity_service.domain.ids import PrincipalId
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import MAX_TOKEN_CHARS
from identity_service.domain.visible import NO_CONTROLS, has_controls
from identity_service.http_api.oauth.errors import invalid_client, invalid_request
from identity_service.http_api.oauth.forms import Form, decode
from identity_service.services.authenticate import ClientAssertion, ClientCertificate, ClientSecret

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""The type of a client assertion that is a JWT (RFC 7523 section 2.2)."""
METHODS: Final = ("client_secret_basic", "client_secret_post", "private_key_jwt")
"""The methods that authenticate a client at every URL, as the metadata names them."""
CERTIFICATE_METHOD: Final = "tls_client_auth"
"""The method that authenticates a client by its certificate (RFC 8705 section 2.1)."""
MAX_CLIENT_ID_CHARS: Final = 128
MAX_SECRET_CHARS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicClient:
    """A client that a request names without authenticating it (method `none`)."""

    client_id: PrincipalId


ClientOfRequest = ClientSecret | ClientAssertion | ClientCertificate | PublicClient


def read_client(
    headers: Mapping[str, tuple[str, ...]], form: Form, *, token_endpoint: str
) -> ClientOfRequest | None:
    """Return the client that a request authenticates or names, or None.

    `token_endpoint` is the URL that the `aud` of an assertion may be. Raises OAuthError if the credential is
    malformed, or if the request uses more than one method.
    """
    authorization = headers.get("authorization", ())
    secret = form.get("client_secret", MAX_SECRET_CHARS)
    has_assertion = any(form.get(name) for name in ("client_assertion", "client_assertion_type"))
    if bool(authorization) + bool(secret) + has_assertion > 1:
        raise invalid_request("use one method of client authentication only")
    client_id = _client_id(form.get("client_id", MAX_CLIENT_ID_CHARS))
    if authorization:
        return _read_basic(authorization, client_id)
    if has_assertion:
        return _read_assertion(form, client_id, token_endpoint)
    if client_id is None:
        if secret:
            raise invalid_request("the parameter client_id is missing")
        return None
    if secret:
        return ClientSecret(client_id=client_id, secret=Secret(secret))
    return PublicClient(client_id=client_id)


def _read_assertion(form: Form, client_id: PrincipalId | None, token_endpoint: str) -> ClientAssertion:
    if form.require("client_assertion_type") != ASSERTION_TYPE:
        raise invalid_client(f"the client_assertion_type must be {ASSERTION_TYPE}")
    jwt = form.require("client_assertion", MAX_TOKEN_CHARS)
    return ClientAssertion(jwt=Secret(jwt), client_id=client_id, token_endpoint=token_endpoint)


def _read_basic(authorization: Sequence[str], named: PrincipalId | None) -> ClientSecret | PublicClient:
    """Return the client of a header Authorization; `named` is the parameter client_id."""
    if len(authorization) != 1:
        raise invalid_request("the header Authorization occurs more than once")
    try:
        client_id, secret = parse_basic(authorization[0])
    except ValueError:
        raise invalid_client(
            "the header Authorization must be Basic, with a client id and a secret"
        ) from None
    if named is not None and named != client_id:
        raise invalid_request("the parameter client_id names another client than the header Authorization")
    if len(client_id) > MAX_CLIENT_ID_CHARS or len(secret.reveal()) > MAX_SECRET_CHARS:
        raise invalid_client("the client id or the secret is too long")
    found = _client_id(client_id)
    if found is None:
        raise invalid_client("the header Authorization names no client")
    # Libraries send an empty secret for a client that has none, even where the parameter client_id would do.
    return ClientSecret(client_id=found, secret=secret) if secret else PublicClient(client_id=found)


def parse_basic(header: str) -> tuple[str, Secret]:
    """Return the id and the secret of a header Authorization with the scheme Basic (RFC 7617).

    Both are form-encoded (RFC 6749 section 2.3.1). A library that does not encode them sends the colons of an
    id as they are, and no secret of this service has one: so the last colon separates the two. Raises
    ValueError, whose message holds no part of the header.
    """
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "basic":
        raise ValueError("not Basic")
    try:
        encoded = binascii.a2b_base64(text.strip(" ").encode("ascii"), strict_mode=True)
    except ValueError:
        raise ValueError("not base64") from None
    client_id, colon, secret = encoded.rpartition(b":")
    if not colon:
        raise ValueError("no colon")
    return decode(client_id), Secret(decode(secret))


def _client_id(text: str | None) -> PrincipalId | None:
    if text and has_controls(text):
        raise invalid_request(f"the client id {NO_CONTROLS}")
    return PrincipalId(text) if text else None
