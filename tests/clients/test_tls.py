"""The Python clients over TLS with the real service: which certificates they trust and present."""

from collections.abc import Callable

import pytest

from identity_client import (
    ClientOptions,
    IdentityClient,
    TlsOptions,
    TrustClient,
    UnavailableError,
    Verified,
)
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.rpc.conftest import StartWorld
from tests.rpc.conftest import certifier as certifier
from tests.rpc.conftest import start_world as start_world
from tests.rpc.world import World
from tests.tls import Certifier

pytestmark = pytest.mark.usefixtures("both_kinds")


CERTIFICATE = token_pb2.Credential(client_certificate=token_pb2.ClientCertificate())


@pytest.fixture
def start(start_world: StartWorld, certifier: Certifier) -> Callable[..., World]:
    server = certifier.server()

    def start(**more: object) -> World:
        return start_world(**server.settings(**more))

    return start


def test_a_client_that_trusts_the_authority_issues_and_verifies(
    start: Callable[..., World], certifier: Certifier
) -> None:
    world = start()
    world.new_client("checks", audiences=("identity-service",), scopes=("identity.verify",))
    reports = world.new_client().credential.client_secret
    options = ClientOptions(tls=certifier.options())

    with IdentityClient(world.target, options=options) as client:
        token = client.issue_with_secret(reports.client_id, reports.client_secret).access_token
        checker = world.admin.credential.client_secret
        bearer = client.issue_with_secret(
            checker.client_id, checker.client_secret, scopes=["identity.verify"]
        ).access_token
    with IdentityClient(
        world.target, options=ClientOptions(tls=certifier.options(), bearer=bearer)
    ) as client:
        outcome = client.verify(token, any_audience=True)

    assert isinstance(outcome, Verified)
    assert (outcome.subject, outcome.certificate_sha256) == ("reports", b"")


def test_a_certificate_proves_the_client_in_every_call(
    start: Callable[..., World], certifier: Certifier
) -> None:
    world = start(tls_client_ca=certifier.file)
    world.new_client(certificates=("dns:reports.example",), scopes=("identity.verify",))
    holder = certifier.client("reports", "reports.example")
    options = ClientOptions(tls=certifier.options(holder))

    with IdentityClient(world.target, options=options) as client:
        token = client.issue(pb.IssueRequest(credential=CERTIFICATE)).access_token
        outcome = client.verify(token, any_audience=True, certificate_sha256=holder.sha256)
    with TrustClient(world.target, options=options) as trust:
        first = next(trust.watch())

    assert isinstance(outcome, Verified)
    assert outcome.certificate_sha256 == holder.sha256
    assert first.restarted


@pytest.mark.parametrize("tls", [None, TlsOptions()], ids=["plain text", "the usual authorities"])
def test_a_client_that_does_not_know_the_authority_finds_no_service(
    start: Callable[..., World], tls: TlsOptions | None
) -> None:
    world = start()
    options = ClientOptions(tls=tls, max_attempts=1)

    with IdentityClient(world.target, options=options) as client, pytest.raises(UnavailableError):
        client.issue_with_secret("reports", "a secret")


def test_the_service_must_have_the_name_that_is_asked_for(
    start: Callable[..., World], certifier: Certifier
) -> None:
    world = start()
    principal = world.new_client().credential.client_secret

    def issue(name: str) -> str:
        tls = TlsOptions(ca_file=certifier.file, server_name=name)
        with IdentityClient(world.target, options=ClientOptions(tls=tls, max_attempts=1)) as client:
            return client.issue_with_secret(principal.client_id, principal.client_secret).access_token

    assert issue("localhost")
    with pytest.raises(UnavailableError):
        issue("elsewhere.example")
