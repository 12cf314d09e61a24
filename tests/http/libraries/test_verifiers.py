"""Python libraries that verify access tokens with the published keys, before and after a key rotation."""

import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
import pytest
import requests
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from tests.http.libraries.provider import Provider
from tests.http.libraries.rotation import AT_ONCE, Verify, rotate_between


def keys_url(provider: Provider) -> str:
    url = f"{provider.issuer}/.well-known/openid-configuration"
    return str(requests.get(url, timeout=60).json()["jwks_uri"])


def by_pyjwt(provider: Provider) -> Verify:
    context = ssl.create_default_context(cafile=provider.ca_file)
    client = jwt.PyJWKClient(keys_url(provider), ssl_context=context)

    def verify(token: str) -> Mapping[str, Any]:
        key = client.get_signing_key_from_jwt(token)
        claims: Mapping[str, Any] = jwt.decode(
            token, key, algorithms=["ES256"], audience=provider.audience, issuer=provider.issuer
        )
        return claims

    return verify


def by_joserfc(provider: Provider) -> Verify:
    registry = JWTClaimsRegistry(
        iss={"essential": True, "value": provider.issuer},
        aud={"essential": True, "value": provider.audience},
    )

    def verify(token: str) -> Mapping[str, Any]:
        keys = KeySet.import_key_set(requests.get(keys_url(provider), timeout=60).json())
        decoded = joserfc_jwt.decode(token, keys, algorithms=["ES256"])
        registry.validate(decoded.claims)
        return decoded.claims

    return verify


class AuthlibValidator(JWTBearerTokenValidator):  # type: ignore[misc]  # Authlib has no types
    def __init__(self, provider: Provider) -> None:
        super().__init__(issuer=provider.issuer, resource_server=provider.audience)
        self._keys_url = keys_url(provider)

    def get_jwks(self) -> KeySet:
        return KeySet.import_key_set(requests.get(self._keys_url, timeout=60).json())


def by_authlib(provider: Provider) -> Verify:
    validator = AuthlibValidator(provider)

    def verify(token: str) -> Mapping[str, Any]:
        claims = validator.authenticate_token(token)
        validator.validate_token(claims, ["read"], None)
        return dict(claims)

    return verify


LIBRARIES: Final[dict[str, Callable[[Provider], Verify]]] = {
    "PyJWT": by_pyjwt,
    "joserfc": by_joserfc,
    "Authlib": by_authlib,
}


@pytest.mark.settings(**AT_ONCE)
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_verifies_before_and_after_a_rotation(provider: Provider, library: str) -> None:
    rotation = rotate_between(provider, LIBRARIES[library](provider))

    assert len(rotation.key_ids) == 2
    assert rotation.subjects == ["reports"] * 3
