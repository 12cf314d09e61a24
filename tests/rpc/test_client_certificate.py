"""Clients that authenticate themselves at sign-ins and Refresh by the certificate of their connection."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from identity_service.domain.principals import Grant
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests import weak_keys
from tests.rpc.conftest import StartWorld
from tests.rpc.world import World, failure, password
from tests.tls import Certifier, Holder

CERTIFICATE = token_pb2.Credential(client_certificate=token_pb2.ClientCertificate())
APP = (Grant.PASSWORD, Grant.REFRESH_TOKEN)


class Site:
    """A service, and connections to it with certificates of various names."""

    def __init__(self, world: World, certifier: Certifier, cleanup: ExitStack) -> None:
        self.world = world
        self._certifier = certifier
        self._cleanup = cleanup

    def seen_by(self, *names: str) -> World:
        holder = self._certifier.client("-".join(names), *names)
        channel = self._cleanup.enter_context(self._certifier.channel(self.world.target, holder))
        return replace(self.world, channel=channel)


@pytest.fixture
def site(start_world: StartWorld, certifier: Certifier) -> Iterator[Site]:
    server = certifier.server()
    world = start_world(
        tls_certificate=server.certificate_file, tls_key=server.key_file, tls_client_ca=certifier.file
    )
    world.new_user()
    world.new_client("portal", grants=APP, public=True, certificates=("dns:portal.example",))
    world.new_client("other", grants=APP, public=True, certificates=("dns:other.example",))
    with ExitStack() as cleanup:
        yield Site(world, certifier, cleanup)


def sign_in(world: World, *, secret: str = "") -> token_pb2.TokenSet:
    credential = password("ana", client_id="portal", secret=secret)
    return world.stub.Issue(pb.IssueRequest(credential=credential)).token_set


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return failure(refused.value).reason


def test_a_person_signs_in_through_a_client_that_its_certificate_proves(site: Site) -> None:
    assert sign_in(site.seen_by("portal.example")).refresh_token


def test_the_certificate_of_another_client_does_not_prove_it(site: Site) -> None:
    assert reason(lambda: sign_in(site.seen_by("other.example"))) == "CREDENTIAL_REFUSED"
    assert reason(lambda: sign_in(site.seen_by("nobody.example"))) == "CREDENTIAL_REFUSED"


def test_a_certificate_that_names_two_clients_proves_neither(site: Site) -> None:
    both = site.seen_by("portal.example", "other.example")

    assert reason(lambda: sign_in(both)) == "CREDENTIAL_REFUSED"


def test_a_wrong_secret_is_not_made_good_by_the_certificate(site: Site) -> None:
    assert reason(lambda: sign_in(site.seen_by("portal.example"), secret="x")) == "CREDENTIAL_REFUSED"


def test_a_session_is_refreshed_with_the_certificate(site: Site) -> None:
    portal, other = site.seen_by("portal.example"), site.seen_by("other.example")
    session = sign_in(portal)

    assert reason(lambda: portal.refresh(session.refresh_token)) == "CREDENTIAL_REFUSED"
    with_other = {"client_credential": CERTIFICATE}
    assert reason(lambda: other.refresh(session.refresh_token, **with_other)) == "CREDENTIAL_REFUSED"
    assert portal.refresh(session.refresh_token, client_credential=CERTIFICATE).access_token


def test_a_connection_without_a_certificate_is_refused_with_that_reason(start_world: StartWorld) -> None:
    """The error reason is that of every refused credential.

    The message says that there is no certificate, which reveals nothing that the caller does not know.
    """
    with pytest.raises(grpc.RpcError) as refused:
        start_world().stub.Issue(pb.IssueRequest(credential=CERTIFICATE))

    found = failure(refused.value)
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_REFUSED")
    assert (
        found.message == "the connection has no client certificate: connect with TLS and a client certificate"
    )


def test_a_certificate_whose_private_key_can_be_computed_counts_as_absent(
    start_world: StartWorld, certifier: Certifier, tmp_path: Path
) -> None:
    """The service checks for weak keys (CVE-2017-15361) itself, since the TLS handshake accepts them."""
    good, weak = rsa.generate_private_key(65537, 2048), weak_keys.roca_key()
    holders, authorities = [], b""
    for name, key in (("good", good), ("weak", weak)):
        made = weak_keys.certify(key.public_key(), f"{name}.example")
        holder = Holder(certificate_file=tmp_path / f"{name}.pem", key_file=tmp_path / f"{name}.key")
        holder.certificate_file.write_bytes(made.certificate)
        holder.key_file.write_bytes(weak_keys.pem(key))
        holders.append(holder)
        authorities += made.authority
    (tmp_path / "authorities.pem").write_bytes(authorities)
    world = start_world(**certifier.server().settings(tls_client_ca=tmp_path / "authorities.pem"))
    world.new_client("reports", public=True, certificates=("dns:good.example", "dns:weak.example"))

    def issue(holder: Holder) -> token_pb2.TokenSet:
        with certifier.channel(world.target, holder) as channel:
            return (
                replace(world, channel=channel).stub.Issue(pb.IssueRequest(credential=CERTIFICATE)).token_set
            )

    assert issue(holders[0]).access_token
    with pytest.raises(grpc.RpcError) as refused:
        issue(holders[1])
    assert failure(refused.value).message.startswith("the connection has no client certificate")
