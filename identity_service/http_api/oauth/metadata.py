"""The metadata documents (RFC 8414, OpenID Connect Discovery 1.0), which claim only what is enabled.

This service is not an OpenID provider. It serves the second document for libraries that read only that one,
and that refuse it without the two members that `openid_configuration` adds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.http_api import paths
from identity_service.http_api.oauth import token
from identity_service.http_api.oauth.clients import CERTIFICATE_METHOD, METHODS
from identity_service.jose.dpop import DPOP_ALGORITHMS

ID_JAG_PROFILE: Final = "urn:ietf:params:oauth:grant-profile:id-jag"
"""The profile of jwt-bearer by ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataConfig:
    """The features of a deployment that its metadata documents announce."""

    issuer: str
    """The `iss` of its tokens, byte for byte."""
    scopes: frozenset[str]
    """The scopes that a client may request, as far as they are known."""
    algorithms: tuple[str, ...]
    """The algorithms of its published signing keys."""
    public_clients: bool
    """True if a client is public and enabled, so that `none` is an authentication method."""
    trusted_issuers: bool
    """True if it accepts tokens of other issuers, so that jwt-bearer is a grant, also by ID-JAG."""
    mtls_url: str = ""
    """The URL at which clients present their certificates; empty = none."""


def authorization_server_metadata(config: MetadataConfig) -> Mapping[str, object]:
    """Return the document for `/.well-known/oauth-authorization-server` (RFC 8414 section 2)."""
    unauthenticated = ("none",) if config.public_clients else ()
    document: dict[str, object] = {
        "issuer": config.issuer,
        "jwks_uri": paths.url_of(config.issuer, paths.KEYS),
        **_endpoints(config.issuer),
        "grant_types_supported": _grants(config),
        "response_types_supported": [],
        "scopes_supported": sorted(config.scopes),
        "dpop_signing_alg_values_supported": list(DPOP_ALGORITHMS),
    }
    if config.trusted_issuers:
        document["authorization_grant_profiles_supported"] = [ID_JAG_PROFILE]
    authenticated = (*METHODS, CERTIFICATE_METHOD) if config.mtls_url else METHODS
    methods = {
        "token": (*authenticated, *unauthenticated),
        "introspection": (*authenticated, "Bearer", "DPoP"),
        "revocation": (*authenticated, *unauthenticated),
    }
    for endpoint, supported in methods.items():
        document[f"{endpoint}_endpoint_auth_methods_supported"] = list(supported)
        document[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] = list(ISSUER_ALGORITHMS)
    if config.mtls_url:
        document["tls_client_certificate_bound_access_tokens"] = True
        document["mtls_endpoint_aliases"] = _endpoints(config.mtls_url)
    return document


def openid_configuration(config: MetadataConfig) -> Mapping[str, object]:
    """Return the document for `/.well-known/openid-configuration`."""
    return {
        **authorization_server_metadata(config),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": list(config.algorithms),
    }


def _endpoints(url: str) -> Mapping[str, str]:
    """Return the URLs of the endpoints below this one, under the names that the metadata has for them."""
    return {
        "token_endpoint": paths.url_of(url, paths.TOKEN),
        "introspection_endpoint": paths.url_of(url, paths.INTROSPECT),
        "revocation_endpoint": paths.url_of(url, paths.REVOKE),
    }


def _grants(config: MetadataConfig) -> list[str]:
    always = [token.CLIENT_CREDENTIALS, token.PASSWORD, token.REFRESH_TOKEN, token.TOKEN_EXCHANGE]
    return [*always, token.JWT_BEARER] if config.trusted_issuers else always
