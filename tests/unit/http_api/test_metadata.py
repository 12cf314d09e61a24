"""The metadata documents list exactly what is enabled."""

from dataclasses import replace
from typing import Any

import pytest

from identity_service.http_api.oauth.metadata import (
    MetadataConfig,
    authorization_server_metadata,
    openid_configuration,
)

CONFIG = MetadataConfig(
    issuer="https://id.example",
    scopes=frozenset({"read", "identity.verify"}),
    algorithms=("ES256",),
    public_clients=True,
    trusted_issuers=True,
)
ALWAYS = ["client_secret_basic", "client_secret_post", "private_key_jwt"]


def test_a_document_names_the_endpoints_below_the_issuer() -> None:
    document = authorization_server_metadata(CONFIG)

    assert document["issuer"] == "https://id.example"
    assert {name: value for name, value in document.items() if name.endswith(("_endpoint", "_uri"))} == {
        "token_endpoint": "https://id.example/oauth2/token",
        "introspection_endpoint": "https://id.example/oauth2/introspect",
        "revocation_endpoint": "https://id.example/oauth2/revoke",
        "jwks_uri": "https://id.example/.well-known/jwks.json",
    }


def test_a_document_names_the_algorithms_of_dpop_proofs() -> None:
    document = authorization_server_metadata(CONFIG)

    assert document["dpop_signing_alg_values_supported"] == ["ES256", "ES384", "EdDSA", "RS256", "PS256"]


def test_a_final_slash_of_the_issuer_is_kept_and_not_doubled() -> None:
    document = authorization_server_metadata(replace(CONFIG, issuer="https://id.example/t1/"))

    assert document["issuer"] == "https://id.example/t1/"
    assert document["token_endpoint"] == "https://id.example/t1/oauth2/token"


def test_a_document_names_the_grants_and_scopes_and_no_response_type() -> None:
    document = authorization_server_metadata(CONFIG)

    assert document["grant_types_supported"] == [
        "client_credentials",
        "password",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
    ]
    assert document["scopes_supported"] == ["identity.verify", "read"]
    assert document["response_types_supported"] == []


def test_a_document_names_the_methods_of_each_endpoint() -> None:
    document = authorization_server_metadata(CONFIG)

    assert document["token_endpoint_auth_methods_supported"] == [*ALWAYS, "none"]
    assert document["revocation_endpoint_auth_methods_supported"] == [*ALWAYS, "none"]
    assert document["introspection_endpoint_auth_methods_supported"] == [*ALWAYS, "Bearer", "DPoP"]
    for endpoint in ("token", "revocation", "introspection"):
        supported: Any = document[f"{endpoint}_endpoint_auth_signing_alg_values_supported"]
        assert "ES256" in supported, "RFC 8414 demands it beside private_key_jwt"
        assert "none" not in supported


def test_clients_with_certificates_find_their_method_and_their_urls() -> None:
    document = authorization_server_metadata(replace(CONFIG, mtls_url="https://mtls.example"))

    assert document["token_endpoint_auth_methods_supported"] == [*ALWAYS, "tls_client_auth", "none"]
    assert document["revocation_endpoint_auth_methods_supported"] == [*ALWAYS, "tls_client_auth", "none"]
    assert document["introspection_endpoint_auth_methods_supported"] == [
        *ALWAYS,
        "tls_client_auth",
        "Bearer",
        "DPoP",
    ]
    assert document["tls_client_certificate_bound_access_tokens"] is True
    assert document["mtls_endpoint_aliases"] == {
        "token_endpoint": "https://mtls.example/oauth2/token",
        "introspection_endpoint": "https://mtls.example/oauth2/introspect",
        "revocation_endpoint": "https://mtls.example/oauth2/revoke",
    }
    assert document["token_endpoint"] == "https://id.example/oauth2/token"


def test_without_a_url_for_them_a_document_claims_nothing_about_certificates() -> None:
    document = authorization_server_metadata(CONFIG)

    assert not [name for name in document if "tls" in name]
    assert "tls" not in str(document["token_endpoint_auth_methods_supported"])


@pytest.mark.parametrize("name", ["token", "revocation"])
def test_the_method_none_is_claimed_only_with_public_clients(name: str) -> None:
    document = authorization_server_metadata(replace(CONFIG, public_clients=False))

    assert document[f"{name}_endpoint_auth_methods_supported"] == ALWAYS


def test_the_grant_jwt_bearer_is_claimed_only_with_trusted_issuers() -> None:
    document = authorization_server_metadata(replace(CONFIG, trusted_issuers=False))

    assert "jwt-bearer" not in str(document["grant_types_supported"])
    assert "authorization_grant_profiles_supported" not in document


def test_a_document_names_the_profile_of_id_jags() -> None:
    document = authorization_server_metadata(CONFIG)

    assert document["authorization_grant_profiles_supported"] == [
        "urn:ietf:params:oauth:grant-profile:id-jag"
    ]


def test_the_openid_document_adds_what_libraries_insist_on() -> None:
    added = openid_configuration(CONFIG).keys() - authorization_server_metadata(CONFIG).keys()

    assert added == {"subject_types_supported", "id_token_signing_alg_values_supported"}
