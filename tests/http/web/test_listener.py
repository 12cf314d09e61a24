"""gRPC-Web on the HTTP listener of the grpcio engine: connections, and clients that are slow or leave."""

import base64
import socket
import ssl
from contextlib import ExitStack, closing
from datetime import timedelta
from urllib.parse import quote

import pytest

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import trust_service_pb2
from tests.http.conftest import StartSite
from tests.http.site import Site
from tests.http.web.grpc_web import IDENTITY, ORIGIN, framed, frames, post
from tests.patience import PATIENCE, until
from tests.tls import Certifier

KIND = "application/grpc-web+proto"
VERIFY = framed(pb.VerifyRequest(token="no token", audiences=["api"]))


@pytest.fixture
def site(start: StartSite) -> Site:
    return start(web_origins=(ORIGIN,))


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: a", f"content-type: {KIND}", *lines, "", ""]).encode()


def everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_connection_serves_one_call_after_the_other(site: Site) -> None:
    with closing(site.connect()) as connection:
        for _ in range(3):
            connection.request("POST", IDENTITY + "Verify", VERIFY, {"content-type": KIND, "origin": ORIGIN})
            answer = connection.getresponse()
            assert answer.getheader("connection") is None
            assert frames(answer.read())[1]["grpc-status"] == "0"


def test_a_client_that_sends_its_message_slowly_is_told_so_and_disconnected(start: StartSite) -> None:
    site = start(web_origins=(ORIGIN,), request_timeout=timedelta(milliseconds=300))

    with socket.create_connection(site.address, timeout=PATIENCE) as connection:
        connection.sendall(head(IDENTITY + "Verify", "content-length: 50") + b"\0\0\0")
        answer = everything(connection)

    assert b"grpc-status: 4" in answer  # DEADLINE_EXCEEDED
    assert b"connection: close" in answer
    assert site.world.service._apis.limits.refusals["request_timeout"] == 1


def test_calls_count_toward_the_limit_of_an_address(start: StartSite) -> None:
    site = start(web_origins=(ORIGIN,), limits_exempt=(), max_receives_per_peer=2)

    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(site.address, timeout=PATIENCE)) for _ in range(3)
        ]
        for connection in connections:
            connection.sendall(head(IDENTITY + "Verify", "content-length: 50") + b"\0\0\0")
        until(lambda: site.world.service._apis.limits.refusals["max_receives_per_peer"] > 0)


def test_the_stream_of_a_client_that_leaves_ends(site: Site) -> None:
    body = framed(trust_service_pb2.WatchRequest())
    path = "/identityapi.v1.TrustService/Watch"
    with socket.create_connection(site.address, timeout=PATIENCE) as connection:
        connection.sendall(head(path, f"content-length: {len(body)}") + body)
        until(lambda: len(site.world.service._apis.hub) == 1)

    until(lambda: len(site.world.service._apis.hub) == 0)


def test_a_stream_ends_at_the_age_at_which_its_caller_must_prove_itself_again(start: StartSite) -> None:
    site = start(web_origins=(ORIGIN,), max_connection_age=timedelta(seconds=1))
    path = "/identityapi.v1.TrustService/Watch"

    answer = site.request("POST", path, framed(trust_service_pb2.WatchRequest()), content_type=KIND)

    messages, trailers = frames(answer.body)
    assert messages
    assert trailers["grpc-status"] == "14"  # UNAVAILABLE


def test_a_header_with_a_certificate_proves_nothing(start: StartSite, certifier: Certifier) -> None:
    """The header is as the Envoy engine writes it, but on the grpcio engine any client can send it."""
    site = start(web_origins=(ORIGIN,), **certifier.server().settings())
    site = Site(site.world, site.target, ssl.create_default_context(cafile=certifier.file))
    holder = certifier.client("reports", "reports.example")
    site.world.new_client("reports", public=True, certificates=("dns:reports.example",))
    pem = quote(holder.certificate_file.read_text(), safe="")
    request = pb.IssueRequest()
    request.credential.client_certificate.SetInParent()

    answer = post(site, "Issue", framed(request), x_forwarded_client_cert=f'Cert="{pem}"')

    assert (answer.headers["grpc-status"], frames(answer.body)[0]) == ("16", [])  # UNAUTHENTICATED


def test_two_lengths_of_a_body_are_refused(site: Site) -> None:
    with socket.create_connection(site.address, timeout=PATIENCE) as connection:
        connection.sendall(
            head(IDENTITY + "Verify", "content-length: 5", "transfer-encoding: chunked") + b"0\r\n\r\n"
        )
        answer = everything(connection)

    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_malformed_call_in_base64_is_refused_with_a_reason(site: Site) -> None:
    answer = post(site, "Verify", base64.b64encode(VERIFY) + b"=", text=True, origin=ORIGIN)

    assert (answer.status, answer.body) == (400, b"the body is not base64")


def test_without_web_origins_there_is_no_grpc_web(start: StartSite) -> None:
    answer = post(start(), "Verify", VERIFY, origin=ORIGIN)

    assert answer.status == 404
