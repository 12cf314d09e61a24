"""A rotation of the signing key while a library verifies access tokens. The module asserts nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import requests

from tests.http.libraries.provider import Provider
from tests.rpc.administrator import Administrator

AT_ONCE = {"publish_before": "0s"}
"""Settings with which a new key signs at once, without being published for a time before."""
Verify = Callable[[str], Mapping[str, Any]]
"""A function that verifies a token with a library, and returns its claims."""


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """The ids of the old and the new key, and the claims that a library returned around the rotation."""

    key_ids: set[str]
    claims: tuple[Mapping[str, Any], ...]
    """The claims of a token signed with the old key, of one signed with the new key, and of the first one
    again."""

    @property
    def subjects(self) -> list[object]:
        return [claims.get("sub", claims) for claims in self.claims]


def rotate_between(provider: Provider, verify: Verify) -> Rotation:
    """Verify a token, rotate the signing key, and then verify a new token and the first one again."""
    before = new_token(provider)
    first = verify(before)
    world = provider.world
    Administrator(world, world.admin_token(scopes=["identity.admin"])).call("RotateKeys")
    after = new_token(provider)
    return Rotation(
        key_ids={jwt.get_unverified_header(token)["kid"] for token in (before, after)},
        claims=(first, verify(after), verify(before)),
    )


def new_token(provider: Provider, credentials: tuple[str, str] | None = None, **params: str) -> str:
    """Return an access token of the client with these credentials; None = of the client `reports`."""
    url = f"{provider.issuer}/oauth2/token"
    form = {"grant_type": "client_credentials", **params}
    answer = requests.post(url, data=form, auth=credentials or provider.credentials, timeout=60)
    answer.raise_for_status()
    return str(answer.json()["access_token"])
