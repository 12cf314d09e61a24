"""Libraries that verify access tokens by the published keys, through a rotation of the keys."""

import ssl
from typing import Any

import jwt
import pytest
import requests
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from tests.http.libraries.provider import Provider
from tests.rpc.administrator import Administrator

AT_ONCE = {"publish_before": "0s"}
"""A new key signs as soon as it is made."""


def new_token(provider: Provider) -> str:
    url = f"{provider.issuer}/oauth2/token"
    answer = requests.post(
        url,
        data={"grant_type": "client_credentials"},
        auth=provider.credentials,
        timeout=60,
    )
    answer.raise_for_status()
    return str(answer.json()["access_token"])


def rotate(provider: Provider) -> None:
    world = provider.world
    Administrator(world, world.admin_token(scopes=["identity.admin"])).call("RotateKeys")


def keys_url(provider: Provider) -> str:
    url = f"{provider.issuer}/.well-known/openid-configuration"
    return str(requests.get(url, timeout=60).json()["jwks_uri"])


@pytest.mark.settings(**AT_ONCE)
def test_pyjwt_verifies_before_and_after_a_rotation(provider: Provider) -> None:
    context = ssl.create_default_context(cafile=provider.ca_file)
    client = jwt.PyJWKClient(keys_url(provider), ssl_context=context)

    def verify(token: str) -> Any:
        key = client.get_signing_key_from_jwt(token)
        return jwt.decode(
            token, key, algorithms=["ES256"], audience=provider.audience, issuer=provider.issuer
        )

    before = new_token(provider)
    assert verify(before)["sub"] == "reports"
    rotate(provider)
    after = new_token(provider)

    assert jwt.get_unverified_header(before)["kid"] != jwt.get_unverified_header(after)["kid"]
    assert verify(after)["sub"] == verify(before)["sub"] == "reports"


@pytest.mark.settings(**AT_ONCE)
def test_joserfc_verifies_before_and_after_a_rotation(provider: Provider) -> None:
    before = new_token(provider)
    rotate(provider)
    after = new_token(provider)
    answer = requests.get(keys_url(provider), timeout=60)
    keys = KeySet.import_key_set(answer.json())
    registry = JWTClaimsRegistry(
        iss={"essential": True, "value": provider.issuer},
        aud={"essential": True, "value": provider.audience},
    )

    for token in (before, after):
        decoded = joserfc_jwt.decode(token, keys, algorithms=["ES256"])
        registry.validate(decoded.claims)
        assert decoded.header["typ"] == "at+jwt"
        assert decoded.claims["client_id"] == "reports"
