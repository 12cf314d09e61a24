"""ID-JAGs of an identity provider that publishes its keys, presented to two processes of the service.

An ID-JAG (Identity Assertion JWT Authorization Grant) is a JWT that a client exchanges for an access token.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import pytest

from identity_service.bootstrap import Service
from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule, federated_id
from tests.http.site import Answer, Site
from tests.issuer_server import IssuerServer
from tests.jwts import PartyKey, assertion_claims
from tests.rpc.conftest import STORES, address, running, settings_for_tests
from tests.rpc.world import World

IDP: Final = "https://idp.example"
ISSUER: Final = "https://id.example"
KEY: Final = PartyKey.make("RS256", "idp-key")
RULE: Final = TrustRule(
    claims={"client_id": "portal", "email_verified": "true"},
    client_id=PrincipalId("portal"),
    per_subject=True,
)
StartSites = Callable[[str], tuple[Site, Site]]


@pytest.fixture
def start_sites(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartSites]:
    """A function that starts two processes of the service on one store of the given kind.

    Both trust the same identity provider.
    """
    with ExitStack() as cleanup:

        def start(kind: str) -> tuple[Site, Site]:
            settings = settings_for_tests(issuer=ISSUER, http_listen="127.0.0.1:0")
            store = address(kind, tmp_path, request)
            provider = cleanup.enter_context(IssuerServer())
            provider.publish(KEY)
            world = cleanup.enter_context(running(settings, store.open))
            theirs = store.open(world.clock)
            cleanup.callback(theirs.close)
            trust(world, provider)
            other = Service(settings, clock=world.clock, store=theirs)
            other.start()
            cleanup.callback(other.stop)
            world.verify("x", strong=True)
            ports = (world.service.http_port, other.http_port)
            return Site(world, f"127.0.0.1:{ports[0]}"), Site(world, f"127.0.0.1:{ports[1]}")

        yield start


def trust(world: World, provider: IssuerServer) -> None:
    world.store_admin.administrator.issuers.create(
        TrustedIssuer(issuer=IDP, jwks_uri=provider.url, rules=(RULE,))
    )


def id_jag(site: Site, **changes: object) -> str:
    """Return an ID-JAG with the claims that an identity provider writes, and with these changes."""
    claims = {
        "iss": IDP,
        "sub": "U019488227",
        "aud": ISSUER,
        "client_id": "portal",
        "exp": 300,
        "scope": "read",
        "email": "ana@acme.example",
        "email_verified": True,
        "amr": ["mfa", "hwk"],
    }
    made = assertion_claims("", site.world.clock.now(), **(claims | changes))
    return KEY.jwt(made, typ="oauth-id-jag+jwt")


def present(site: Site, jwt: str, secret: str) -> Answer:
    """Request a token for an ID-JAG as the client `portal`, which sends its secret in the body."""
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": jwt,
        "client_id": "portal",
        "client_secret": secret,
    }
    return site.post("/oauth2/token", urlencode(form))


@pytest.mark.parametrize("kind", STORES)
def test_of_many_presentations_at_two_processes_one_gets_a_token(start_sites: StartSites, kind: str) -> None:
    sites = start_sites(kind)
    secret = sites[0].world.new_client("portal").credential.client_secret.client_secret
    jwt = id_jag(sites[0])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: present(sites[number % 2], jwt, secret), range(16)))

    (issued,) = (answer for answer in answers if answer.status == 200)
    assert {answer.json["error"] for answer in answers if answer is not issued} == {"invalid_grant"}
    verified = sites[1].world.verify(issued.json["access_token"]).verified
    assert (verified.subject, verified.client_id) == (federated_id(IDP, "U019488227"), "portal")
    assert list(verified.scopes) == ["read"]


def test_a_claim_that_the_rule_of_the_provider_needs_decides(start_sites: StartSites) -> None:
    site, _ = start_sites("sqlite")
    secret = site.world.new_client("portal").credential.client_secret.client_secret

    refused = present(site, id_jag(site, email_verified=False), secret)

    assert refused.status == 400
    assert refused.headers["cache-control"] == "no-store"
    assert refused.json["error"] == "invalid_grant"
    assert "no rule" in refused.json["error_description"]


def test_a_client_finds_out_that_the_service_takes_id_jags(start_sites: StartSites) -> None:
    site, _ = start_sites("sqlite")

    document = site.get("/.well-known/oauth-authorization-server").json

    assert document["authorization_grant_profiles_supported"] == [
        "urn:ietf:params:oauth:grant-profile:id-jag"
    ]
    assert "urn:ietf:params:oauth:grant-type:jwt-bearer" in document["grant_types_supported"]
    assert IDP not in str(document), "the draft forbids to name issuers"
