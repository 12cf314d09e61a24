"""Authlib as an OAuth client. It is given the issuer and a credential, and discovers all else."""

import json
from base64 import urlsafe_b64decode
from typing import Any

import pytest
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import AssertionSession, OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import import_key

from tests.http.libraries.provider import Provider
from tests.jwts import PartyKey

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
SECRET_METHODS = ("client_secret_basic", "client_secret_post")
ASSERTION_ALGORITHMS = ("ES256", "ES384", "EdDSA", "RS256", "PS256")


def discovered(provider: Provider) -> dict[str, Any]:
    url = f"{provider.issuer}/.well-known/oauth-authorization-server"
    answer = requests.get(url, timeout=60)
    answer.raise_for_status()
    metadata: dict[str, Any] = answer.json()
    assert metadata["issuer"] == provider.issuer  # RFC 8414 section 3.3
    return metadata


def session(provider: Provider, client_id: str, secret: Any = None, **options: Any) -> OAuth2Session:
    """Return an Authlib session of a client, with the endpoints from the metadata of the service."""
    metadata = discovered(provider)
    endpoints = {name: url for name, url in metadata.items() if name.endswith("_endpoint")}
    return OAuth2Session(client_id, secret, **endpoints, **options)


def introspect(asking: OAuth2Session, token: str, hint: str = "access_token") -> dict[str, Any]:
    url = asking.metadata["introspection_endpoint"]
    answer: dict[str, Any] = asking.introspect_token(url, token, hint).json()
    return answer


def sign_in(asking: OAuth2Session, provider: Provider, **more: Any) -> dict[str, Any]:
    token: dict[str, Any] = asking.fetch_token(username=provider.username, password=provider.password, **more)
    return token


@pytest.mark.parametrize("method", SECRET_METHODS)
def test_a_service_gets_a_token_by_its_secret(provider: Provider, method: str) -> None:
    asking = session(provider, *provider.new_client(), token_endpoint_auth_method=method)

    token = asking.fetch_token(grant_type="client_credentials", scope="read")

    assert (token["token_type"], token["scope"], token["expires_in"]) == ("Bearer", "read", 900)
    assert "refresh_token" not in token
    said = introspect(asking, token["access_token"])
    assert (said["active"], said["sub"], said["scope"], said["iss"]) == (
        True,
        "reports",
        "read",
        provider.issuer,
    )


def test_a_service_gets_a_token_by_its_certificate(provider: Provider) -> None:
    holder = provider.new_certificate_client()
    aliases = discovered(provider)["mtls_endpoint_aliases"]
    asking = OAuth2Session("holder", token_endpoint_auth_method="none", **aliases)
    asking.cert = (str(holder.certificate_file), str(holder.key_file))

    token = asking.fetch_token(grant_type="client_credentials", scope="read")

    said = introspect(asking, token["access_token"])
    assert (said["client_id"], said["scope"]) == ("holder", "read")
    assert urlsafe_b64decode(said["cnf"]["x5t#S256"] + "=") == holder.sha256
    asking.revoke_token(aliases["revocation_endpoint"], token["access_token"])
    with pytest.raises(OAuthError) as refused:
        OAuth2Session(
            "holder", token_endpoint_auth_method="none", token_endpoint=f"{provider.issuer}/oauth2/token"
        ).fetch_token(grant_type="client_credentials")
    assert refused.value.error == "invalid_client"


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # by RFC 9864, in favour of the name Ed25519
@pytest.mark.parametrize("algorithm", ASSERTION_ALGORITHMS)
def test_a_service_gets_a_token_by_its_private_key(provider: Provider, algorithm: str) -> None:
    key = PartyKey.make(algorithm, "k1")
    private = import_key(json.loads(key.private_jwk))
    asking = session(
        provider, provider.new_key_client(key), private, token_endpoint_auth_method="private_key_jwt"
    )
    asking.register_client_auth_method(PrivateKeyJWT(asking.metadata["token_endpoint"], alg=algorithm))

    token = asking.fetch_token(grant_type="client_credentials")

    assert introspect(asking, token["access_token"])["client_id"] == "signer"


def test_a_person_signs_in_through_a_public_client(provider: Provider) -> None:
    asking = session(provider, provider.new_public_client())

    first = sign_in(asking, provider)
    second = asking.refresh_token()

    assert first["refresh_token"] != second["refresh_token"]
    assert first["access_token"] != second["access_token"]


def test_a_refresh_whose_answer_was_lost_may_be_repeated(provider: Provider) -> None:
    asking = session(provider, *provider.new_client())
    first = sign_in(asking, provider)["refresh_token"]

    lost = asking.refresh_token(refresh_token=first)["refresh_token"]
    again = asking.refresh_token(refresh_token=first)["refresh_token"]

    assert again == lost
    assert asking.refresh_token(refresh_token=again)["access_token"]


def test_a_revoked_access_token_is_not_active(provider: Provider) -> None:
    asking = session(provider, *provider.new_client())
    kept = asking.fetch_token(grant_type="client_credentials")["access_token"]
    revoked = asking.fetch_token(grant_type="client_credentials")["access_token"]

    answer = asking.revoke_token(asking.metadata["revocation_endpoint"], revoked, "access_token")

    assert (answer.status_code, answer.content) == (200, b"")
    assert introspect(asking, revoked) == {"active": False}
    assert introspect(asking, kept)["active"] is True


def test_a_revoked_refresh_token_ends_its_session(provider: Provider) -> None:
    asking = session(provider, *provider.new_client())
    token = sign_in(asking, provider)
    assert introspect(asking, token["refresh_token"], "refresh_token")["active"] is True

    asking.revoke_token(asking.metadata["revocation_endpoint"], token["refresh_token"], "refresh_token")

    assert introspect(asking, token["refresh_token"], "refresh_token") == {"active": False}
    assert introspect(asking, token["access_token"]) == {"active": False}
    with pytest.raises(OAuthError) as refused:
        asking.refresh_token(refresh_token=token["refresh_token"])
    assert refused.value.error == "invalid_grant"


def test_a_token_is_exchanged_for_one_that_names_the_actor(provider: Provider) -> None:
    asking = session(provider, *provider.new_client())
    subject = sign_in(asking, provider)["access_token"]

    token = asking.fetch_token(grant_type=EXCHANGE, subject_token=subject, subject_token_type=ACCESS_TOKEN)

    assert token["issued_token_type"] == ACCESS_TOKEN
    said = introspect(asking, token["access_token"])
    assert said["act"]["sub"] == "reports"
    assert said["sub"] == introspect(asking, subject)["sub"]


def test_a_workload_gets_a_token_for_an_assertion_of_its_platform(provider: Provider) -> None:
    federated = provider.federated
    asking = AssertionSession(
        token_endpoint=discovered(provider)["token_endpoint"],
        issuer=federated.issuer,
        subject=federated.subject,
        audience=provider.issuer,
        key=import_key(json.loads(federated.key.private_jwk)),
        header={"alg": federated.key.algorithm, "kid": federated.key.key_id},
    )

    token = asking.refresh_token()

    asking_about = session(provider, *provider.credentials)
    assert introspect(asking_about, token["access_token"])["client_id"] == federated.client_id


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"grant_type": "client_credentials", "scope": "delete"}, "invalid_scope"),
        ({"grant_type": "client_credentials", "resource": "https://other.example"}, "invalid_target"),
        ({"grant_type": "client_credentials", "audience": "other"}, "invalid_target"),
        ({"grant_type": "authorization_code", "code": "x"}, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "ana", "password": "wrong"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "wrong"}, "invalid_grant"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
    ],
    ids=str,
)
def test_a_refusal_has_the_error_of_the_standard(
    provider: Provider, asked: dict[str, str], error: str
) -> None:
    asking = session(provider, *provider.new_client())

    with pytest.raises(OAuthError) as refused:
        asking.fetch_token(**asked)

    assert refused.value.error == error


@pytest.mark.parametrize("method", SECRET_METHODS)
def test_a_wrong_secret_is_an_invalid_client(provider: Provider, method: str) -> None:
    client_id, _ = provider.new_client()
    asking = session(provider, client_id, "wrong", token_endpoint_auth_method=method)

    with pytest.raises(OAuthError) as refused:
        asking.fetch_token(grant_type="client_credentials")

    assert refused.value.error == "invalid_client"
