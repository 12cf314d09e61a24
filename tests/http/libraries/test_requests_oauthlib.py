"""The library requests-oauthlib as a client, configured from the metadata of the service."""

from typing import Any

import pytest
import requests
from oauthlib.oauth2 import (
    BackendApplicationClient,
    InvalidClientError,
    InvalidGrantError,
    LegacyApplicationClient,
)
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


def sign_in(provider: Provider, session: OAuth2Session, **client: Any) -> dict[str, Any]:
    return fetch(session, provider, username=provider.username, password=provider.password, **client)


def test_a_refresh_whose_answer_was_lost_may_be_repeated(provider: Provider) -> None:
    client_id = provider.new_public_client()
    session = OAuth2Session(client=LegacyApplicationClient(client_id=client_id))
    first = sign_in(provider, session, include_client_id=True)["refresh_token"]

    lost, again = (
        session.refresh_token(endpoint(provider), first, client_id=client_id)["refresh_token"]
        for _ in range(2)
    )

    assert lost not in (None, first)
    assert again == lost


def test_a_revoked_refresh_token_ends_its_session(provider: Provider) -> None:
    client_id, secret = provider.new_client()
    client = LegacyApplicationClient(client_id=client_id)
    session = OAuth2Session(client=client)
    basic = HTTPBasicAuth(client_id, secret)
    token = sign_in(provider, session, auth=basic)["refresh_token"]

    url, headers, body = client.prepare_token_revocation_request(
        endpoint(provider, "revocation_endpoint"), token, "refresh_token"
    )
    answer = requests.post(url, body, headers=headers, auth=basic, timeout=60)

    assert (answer.status_code, answer.content) == (200, b"")
    with pytest.raises(InvalidGrantError):
        session.refresh_token(endpoint(provider), token, auth=basic)


def test_a_wrong_secret_is_an_invalid_client(provider: Provider) -> None:
    client_id, _ = provider.new_client()
    session = OAuth2Session(client=BackendApplicationClient(client_id=client_id))

    with pytest.raises(InvalidClientError):
        fetch(session, provider, auth=HTTPBasicAuth(client_id, "wrong"))
