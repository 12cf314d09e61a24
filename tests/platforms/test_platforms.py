"""Platforms as trusted issuers: a token that each of them signs authenticates a client."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identity_service.jose.public_keys import StrictKeyChecker
from tests import weak_keys
from tests.issuer_server import IssuerServer
from tests.jwts import PartyKey
from tests.platforms.facts import PLATFORMS, Platform
from tests.platforms.signing_in import outcome
from tests.rpc.conftest import StartWorld
from tests.rpc.world import World
from tests.weak_keys import Numbers, rsa_jwk

EACH = pytest.mark.parametrize("platform", PLATFORMS.values(), ids=PLATFORMS)
ODD: Mapping[str, Mapping[str, Any]] = {
    "an unknown type": {"kty": "XYZ", "kid": "odd"},
    "null for all that it does not say": {
        **rsa_jwk(Numbers(weak_keys.ODD), kid="odd", alg="RS256"),
        **dict.fromkeys(("use", "key_ops", "crv", "d", "k", "x", "y", "x5u")),
    },
    "an empty curve": {**rsa_jwk(Numbers(weak_keys.ODD), kid="odd", alg="RS256"), "crv": ""},
    "no id": PartyKey.make("ES256").public(kid=None),
    "a secret part": json.loads(PartyKey.make("ES256").private_jwk) | {"kid": "odd"},
    "padded": {"kty": "RSA", "kid": "odd", "n": "AQAB==", "e": "AQAB"},
}


@pytest.fixture
def server() -> Iterator[IssuerServer]:
    with IssuerServer() as server:
        yield server


def trusting(start_world: StartWorld, platform: Platform, server: IssuerServer) -> World:
    world = start_world()
    world.new_client(public=True)
    rule = TrustRule(claims=platform.rule, client_id=PrincipalId("reports"))
    audiences = platform.claims(world.clock.now())["aud"]
    issuer = TrustedIssuer(
        issuer=platform.issuer,
        jwks_uri=server.origin + platform.path,
        rules=(rule,),
        audiences=tuple(audiences) if isinstance(audiences, list) else (audiences,),
    )
    world.store_admin.administrator.issuers.create(issuer)
    world.verify("x", strong=True)
    return world


def attempt(world: World, platform: Platform, **changes: Any) -> str:
    """Return the reason why a token of this platform is refused, or "" if it authenticates the client."""
    jwt = platform.token(world.clock.now(), **changes)
    return outcome(world, jwt)


@EACH
def test_a_token_of_the_platform_proves_its_client_and_no_other(
    start_world: StartWorld, server: IssuerServer, platform: Platform
) -> None:
    platform.publish(server)
    world = trusting(start_world, platform, server)

    assert attempt(world, platform) == ""
    assert attempt(world, platform, **platform.wrong) == "CREDENTIAL_REFUSED"
    assert attempt(world, platform, aud="somebody else") == "CREDENTIAL_REFUSED"
    assert attempt(world, platform, iss="https://elsewhere.example") == "CREDENTIAL_REFUSED"
    assert server.requests == [platform.path]


@EACH
def test_odd_keys_beside_it_do_no_harm(
    start_world: StartWorld, server: IssuerServer, platform: Platform
) -> None:
    platform.publish(server, *ODD.values())
    world = trusting(start_world, platform, server)

    assert attempt(world, platform) == ""


@EACH
def test_a_second_key_with_its_id_disables_that_id_alone(
    start_world: StartWorld, server: IssuerServer, platform: Platform
) -> None:
    twin = PartyKey.make(platform.signer.algorithm, platform.signer.key_id)
    other = PartyKey.make("ES256", "other")
    platform.publish(server, twin.public(), other.public())
    world = trusting(start_world, platform, server)

    assert attempt(world, platform) == "CREDENTIAL_REFUSED"
    assert outcome(world, other.jwt(dict(platform.claims(world.clock.now())))) == ""


@EACH
def test_its_keys_may_be_written_into_the_record(platform: Platform) -> None:
    """`identity issuer create --jwks` stores keys in the issuer's record."""
    server = IssuerServer()
    platform.publish(server, ODD["an unknown type"], ODD["null for all that it does not say"])

    StrictKeyChecker().check_key_set(server.body.decode(), ("ES256", "RS256"))
