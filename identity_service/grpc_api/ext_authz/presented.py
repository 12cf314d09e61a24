"""The token that a request presents (RFC 6750 section 2), and the certificate of its client."""

import hashlib
import re
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, unquote_plus

from identity_service.grpc_api.ext_authz.answers import INVALID_REQUEST, Denial
from identity_service.grpc_api.ext_authz.wire.auth_pb2 import AttributeContext
from identity_service.jose.certificates import has_sound_key

_AUTHORIZATION: Final = "authorization"
_BEARER: Final = "bearer"
_PARAMETER: Final = "access_token"
_NAMES: Final = re.compile(f"[&;]([^&;=]{{{len(_PARAMETER)},}})")
"""The names of parameters that are long enough, still encoded.

A query of 60 KiB may have 60,000 shorter ones, and to decode each of them took 30 to 100 ms.
"""
_FORM: Final = "application/x-www-form-urlencoded"


def headers_of(http: AttributeContext.HttpRequest) -> Iterator[tuple[str, str]]:
    """Return the headers of a request in both forms that Envoy has, with names in lower case.

    A byte that is not ASCII becomes U+FFFD, and an entry with two values is returned twice.
    """
    for name, value in dict(http.headers).items():  # its own `items` looks up each name
        yield name.lower(), value
    for header in http.header_map.headers:
        if header.raw_value or not header.value:
            yield header.key.lower(), header.raw_value.decode("ascii", "replace")
        if header.value:
            yield header.key.lower(), header.value


def bearer_token(http: AttributeContext.HttpRequest) -> str | Denial:
    """Return the only token of a request, from the header Authorization, or why the request is refused.

    A request with several tokens is refused: the service behind the gateway might read another one than this.
    """
    values = [value for name, value in headers_of(http) if name == _AUTHORIZATION]
    if not values:
        return Denial(description="the request has no header `Authorization: Bearer <access token>`")
    # Envoy joins several headers of one name by commas, which no token contains.
    if len(values) > 1 or "," in values[0] or _has_parameter(http):
        return Denial(error=INVALID_REQUEST, description="the request has more than one token")
    scheme, _, text = values[0].partition(" ")
    if scheme.lower() != _BEARER:
        return Denial(description="the header Authorization has another scheme than Bearer")
    return text.strip(" ")


def certificate_sha256(source: AttributeContext.Peer) -> bytes:
    """Return the SHA-256 of the client's certificate in DER; empty if there is none that is sound.

    Envoy sends it if the filter has `include_peer_certificate`; the TLS handshake has proven its key.
    """
    pem = unquote(source.certificate).strip()
    if not has_sound_key(pem.encode()):
        return b""
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()
    except ValueError:
        return b""


def _has_parameter(http: AttributeContext.HttpRequest) -> bool:
    """Return whether a token may also be in the query, or in a form (if Envoy sends the body)."""
    texts = [http.path.partition("?")[2]]
    if any(name == "content-type" and _FORM in value.lower() for name, value in headers_of(http)):
        texts += http.body, http.raw_body.decode("latin-1")
    return any(
        unquote_plus(name).strip().lower() == _PARAMETER
        for text in texts
        for name in _NAMES.findall(f"&{text}")
    )
