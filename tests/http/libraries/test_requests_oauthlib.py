"""requests-oauthlib as a client, with the metadata that it is configured from."""

from typing import Any

import pytest
import requests
from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError, LegacyApplicationClient
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from tests.http.libraries.provider import Provider


def endpoint(provider: Provider, name: str = "token_endpoint") -> str:
    url = f"{provider.issuer}/.well-known/openid-configuration"
    answer = requests.get(url, timeout=60)
    answer.raise_for_status()
    return str(answer.json()[name])


def fetch(session: OAuth2Session, provider: Provider, **options: Any) -> dict[str, Any]:
    token: dict[str, Any] = session.fetch_token(endpoint(provider), **options)
    return token


def test_a_service_gets_a_token_by_its_secret_in_a_header(provider: Provider) -> None:
    client_id, secret = provider.new_client()
    session = OAuth2Session(client=BackendApplicationClient(client_id=client_id, scope=["read"]))

    token = fetch(session, provider, auth=HTTPBasicAuth(client_id, secret))

    assert (token["token_type"], token["scope"]) == ("Bearer", ["read"])


def test_a_service_gets_a_token_by_its_secret_in_the_body(provider: Provider) -> None:
    client_id, secret = provider.new_client()
    session = OAuth2Session(client=BackendApplicationClient(client_id=client_id))

    assert fetch(session, provider, client_secret=secret, include_client_id=True)["access_token"]


def test_a_person_signs_in_and_refreshes_through_a_public_client(provider: Provider) -> None:
    client_id = provider.new_public_client()
    session = OAuth2Session(client=LegacyApplicationClient(client_id=client_id))
    first = fetch(
        session,
        provider,
        username=provider.username,
        password=provider.password,
        include_client_id=True,
    )

    second = session.refresh_token(endpoint(provider), client_id=client_id)

    assert second["refresh_token"] not in (None, first["refresh_token"])


def test_a_wrong_secret_is_an_invalid_client(provider: Provider) -> None:
    client_id, _ = provider.new_client()
    session = OAuth2Session(client=BackendApplicationClient(client_id=client_id))

    with pytest.raises(InvalidClientError):
        fetch(session, provider, auth=HTTPBasicAuth(client_id, "wrong"))
