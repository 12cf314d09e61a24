"""Tokens with a former name of the issuer (setting `accepted_issuers`), against a service over gRPC."""

import pytest

from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from identityapi.v1 import token_pb2
from tests.jwts import PartyKey, assertion_claims, key_set
from tests.rpc.administrator import Administrator, fails
from tests.rpc.conftest import StartWorld
from tests.rpc.forging import forger_of
from tests.rpc.shop import Shop
from tests.rpc.world import Principal, World

NAME, FORMER = "https://identity.example.org", "https://id.example.org"
KEY = PartyKey.make()


@pytest.fixture
def moved(start_world: StartWorld) -> World:
    """A service whose issuer name has changed, and which still accepts its former name."""
    return start_world(issuer=NAME, accepted_issuers=(FORMER,))


def aged(world: World, token: str, issuer: str = FORMER) -> str:
    """Return the token as the service would have issued it under this issuer name."""
    return forger_of(world, token).forge(claims={"iss": issuer})


def test_a_token_with_a_former_name_is_verified_until_it_is_revoked(moved: World) -> None:
    token = aged(moved, moved.issue(moved.new_client()).access_token)
    assert moved.verify(token).verified.issuer == FORMER

    moved.revoke(token=token)

    assert moved.reason(token) == "REVOKED"


def test_a_former_name_is_compared_as_a_whole(moved: World) -> None:
    token = moved.issue(moved.new_client()).access_token

    for near in (f"{FORMER}/", FORMER.upper(), FORMER[:-1], f"{FORMER}:443", "id"):
        assert moved.reason(aged(moved, token, near)) == "UNTRUSTED_ISSUER", near


def test_new_tokens_have_the_current_name_alone(moved: World) -> None:
    shop = Shop(moved)
    signed_in = shop.sign_in()
    renewed = moved.refresh(signed_in.refresh_token, client_credential=shop.portal.credential)
    exchanged = shop.exchange(aged(moved, signed_in.access_token))

    for token in (signed_in, renewed, exchanged):
        found = moved.verify(token.access_token, audiences=[], any_audience=True).verified
        assert found.issuer == NAME


def test_a_caller_may_show_a_token_with_a_former_name(moved: World) -> None:
    token = aged(moved, moved.admin_token(scopes=["identity.admin"]))

    assert Administrator(moved, token).call("ListClients").clients


@pytest.mark.parametrize("audience", [NAME, FORMER])
def test_an_assertion_may_name_either_as_its_audience(moved: World, audience: str) -> None:
    moved.new_client(public=True, public_keys=(KEY.public_jwk,))

    assert moved.issue(by_assertion(moved, audience)).access_token


@pytest.mark.parametrize("audience", [[FORMER], [NAME, FORMER], f"{FORMER}/"], ids=str)
def test_an_assertion_names_one_audience_exactly(moved: World, audience: object) -> None:
    moved.new_client(public=True, public_keys=(KEY.public_jwk,))

    assert fails(lambda: moved.issue(by_assertion(moved, audience))).reason == "CREDENTIAL_REFUSED"


def test_a_federated_token_may_name_a_former_name_as_its_audience(moved: World) -> None:
    moved.new_client(public=True)
    rule = TrustRule(claims={"sub": "job"}, client_id=PrincipalId("reports"))
    cluster = TrustedIssuer(issuer="https://ci.example", jwks=key_set(KEY.public()), rules=(rule,))
    moved.store_admin.administrator.issuers.create(cluster)
    moved.verify("x", strong=True)
    claims = assertion_claims("", moved.clock.now(), iss="https://ci.example", sub="job", aud=[FORMER])
    credential = token_pb2.Credential(federated_token=token_pb2.FederatedToken(jwt=KEY.jwt(claims)))

    assert moved.issue(Principal(id="reports", credential=credential)).access_token


@pytest.mark.parametrize("name", [FORMER, "https://ID.example.org:443/"])
def test_no_other_issuer_may_have_a_spelling_of_a_former_name(moved: World, name: str) -> None:
    admin = Administrator(moved, moved.admin_token(scopes=["identity.admin"]))
    rule = {"claims": {"sub": "job"}, "client_id": "reports"}
    record = {"issuer": name, "jwks": key_set(KEY.public()), "rules": [rule]}

    refused = admin.refused("CreateTrustedIssuer", trusted_issuer=record)

    assert list(refused.fields) == ["trusted_issuer.issuer"]
    assert f"this service's own name ({FORMER})" in refused.message


def by_assertion(world: World, audience: object) -> Principal:
    jwt = KEY.jwt(assertion_claims("reports", world.clock.now(), aud=audience))
    credential = token_pb2.Credential(client_assertion=token_pb2.ClientAssertion(jwt=jwt))
    return Principal(id="reports", credential=credential)
