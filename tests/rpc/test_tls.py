"""TLS of the gRPC port: the accepted protocol versions, and which certificates are required."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from identityapi.v1 import trust_service_pb2, trust_service_pb2_grpc
from tests.patience import PATIENCE
from tests.ports import reserve_address
from tests.rpc.conftest import StartWorld
from tests.rpc.world import World, bearer, failure
from tests.tls import Certifier, Holder, handshake, reaches


def test_tokens_are_issued_and_verified_over_tls(start_world: StartWorld, certifier: Certifier) -> None:
    world = start_world(**certifier.server().settings())
    with certifier.channel(world.target) as channel:
        secure = replace(world, channel=channel)
        token = secure.issue(secure.new_client()).access_token
        metadata = bearer(secure.admin_token(["identity.verify"]))

        answer = secure.stub.Verify(pb.VerifyRequest(token=token, any_audience=True), metadata=metadata)

        assert answer.verified.client_id == "reports"


def test_with_tls_verifying_needs_an_authenticated_caller(
    start_world: StartWorld, certifier: Certifier
) -> None:
    world = start_world(**certifier.server().settings())
    with certifier.channel(world.target) as channel:
        with pytest.raises(grpc.RpcError) as verify:
            rpc.IdentityServiceStub(channel).Verify(pb.VerifyRequest(token="t", any_audience=True))
        with pytest.raises(grpc.RpcError) as keys:
            trust_service_pb2_grpc.TrustServiceStub(channel).GetKeys(trust_service_pb2.GetKeysRequest())

    assert {failure(verify.value).reason, failure(keys.value).reason} == {"CALLER_UNAUTHENTICATED"}


def test_plain_text_is_refused_on_a_port_with_tls(start_world: StartWorld, certifier: Certifier) -> None:
    world = start_world(**certifier.server().settings())

    with pytest.raises(grpc.RpcError) as error:
        world.stub.Issue(pb.IssueRequest(), timeout=PATIENCE)

    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_client_that_does_not_know_the_authority_does_not_connect(
    start_world: StartWorld, certifier: Certifier, tmp_path: Path
) -> None:
    world = start_world(**certifier.server().settings())

    assert reaches(world.target, certifier)
    assert not reaches(world.target, Certifier(tmp_path, "stranger"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_it_speaks_tls_1_2_and_newer(
    start_world: StartWorld, certifier: Certifier, version: ssl.TLSVersion
) -> None:
    world = start_world(**certifier.server().settings())

    spoken, _ = handshake(world.target, version)

    assert spoken == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_it_does_not_speak_tls_1_1(start_world: StartWorld, certifier: Certifier) -> None:
    server = certifier.server()
    world = start_world(**server.settings())

    with old_server(server) as port:  # the control: this client supports TLS 1.1
        assert handshake(f"127.0.0.1:{port}", ssl.TLSVersion.TLSv1_1)[0] == "TLSv1.1"
    with pytest.raises(OSError, match=r"EOF|reset|PROTOCOL_VERSION"):  # gRPC closes the connection
        handshake(world.target, ssl.TLSVersion.TLSv1_1)


@contextmanager
def old_server(holder: Holder) -> Iterator[int]:
    """Run a server that accepts one connection with TLS 1.1; yield its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(holder.certificate_file, holder.key_file)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(timeout=PATIENCE)


# Client certificates


def test_with_client_authorities_a_certificate_of_theirs_is_required(
    mutual: World, certifier: Certifier
) -> None:
    assert reaches(mutual.target, certifier, certifier.client("ana", "ana.example"))
    assert not reaches(mutual.target, certifier)


def test_a_client_certificate_of_another_authority_is_refused(
    mutual: World, certifier: Certifier, tmp_path: Path
) -> None:
    stranger = Certifier(tmp_path / "stranger").client("ana", "ana.example")

    assert not reaches(mutual.target, certifier, stranger)


def test_a_client_certificate_that_has_expired_is_refused(mutual: World, certifier: Certifier) -> None:
    late = certifier.client("late", "ana.example", lifetime=-timedelta(minutes=1))

    assert not reaches(mutual.target, certifier, late)


def test_a_certificate_that_is_for_servers_proves_no_client(mutual: World, certifier: Certifier) -> None:
    assert not reaches(mutual.target, certifier, certifier.server("another-server"))


def test_with_a_separate_mtls_port_the_other_port_requests_no_certificate(
    start_world: StartWorld, certifier: Certifier, tmp_path: Path
) -> None:
    second = reserve_address()
    world = start_world(**certifier.server().settings(tls_client_ca=certifier.file, mtls_listen=second))
    holder = certifier.client("ana", "ana.example")

    assert reaches(world.target, certifier)
    assert reaches(second, certifier, holder)
    assert not reaches(second, certifier)
    assert not reaches(second, certifier, Certifier(tmp_path / "stranger").client("ana", "ana.example"))
