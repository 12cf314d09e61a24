"""HTTP/2 frames and headers that no gRPC client sends: both engines answer with the same gRPC status.

The table has the answers of grpcio's core, written by hand. A stream that is reset with INTERNAL_ERROR counts
as INTERNAL, as gRPC clients report it.
"""

import gzip
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from identity_service.domain.audit import AuditEvent, AuditType
from identityapi.v1 import identity_service_pb2 as pb
from tests.patience import until
from tests.rpc import raw_http2
from tests.rpc.administrator import events
from tests.rpc.conftest import StartWorld
from tests.rpc.raw_http2 import Answer
from tests.rpc.world import World

CHECK = "/grpc.health.v1.Health/Check"
BATCH = "/identityapi.v1.IdentityService/VerifyBatch"
VERIFY = "/identityapi.v1.IdentityService/Verify"
LIMIT = 16 * 2**20
INTERNAL_ERROR = 2
Call = Callable[..., Answer]


def framed(message: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    return bytes([flag]) + (len(message) if length is None else length).to_bytes(4, "big") + message


EMPTY = framed(b"")
GZIP = [("grpc-encoding", "gzip")]


def status(answer: Answer) -> grpc.StatusCode:
    if answer.reset == INTERNAL_ERROR:
        return grpc.StatusCode.INTERNAL
    assert answer.http_status == "200"
    return next(code for code in grpc.StatusCode if str(code.value[0]) == answer.grpc_status)


@pytest.fixture
def world(start_world: StartWorld) -> World:
    return start_world()


@pytest.mark.parametrize(
    ("expected", "request_"),
    [
        pytest.param(grpc.StatusCode.OK, {"body": EMPTY}, id="as it should be"),
        pytest.param(grpc.StatusCode.OK, {"body": [b"\0", b"\0\0", b"\0\0"]}, id="in pieces"),
        pytest.param(grpc.StatusCode.OK, {"body": EMPTY + EMPTY}, id="two messages"),
        pytest.param(grpc.StatusCode.OK, {"body": EMPTY + b"\0"}, id="more behind the message"),
        pytest.param(
            grpc.StatusCode.OK, {"body": EMPTY, "headers": [("content-type", "text/plain")]}, id="text/plain"
        ),
        pytest.param(grpc.StatusCode.OK, {"body": EMPTY, "without": ["content-type"]}, id="no content-type"),
        pytest.param(
            grpc.StatusCode.OK,
            {"body": framed(gzip.compress(b""), flag=1), "headers": GZIP},
            id="compressed by gzip",
        ),
        pytest.param(grpc.StatusCode.OK, {"body": EMPTY, "headers": GZIP}, id="might be compressed"),
        pytest.param(grpc.StatusCode.UNIMPLEMENTED, {"body": b""}, id="no message"),
        pytest.param(grpc.StatusCode.UNIMPLEMENTED, {"body": b"\0\0"}, id="half of a prefix"),
        pytest.param(
            grpc.StatusCode.UNIMPLEMENTED, {"body": framed(b"abc", length=10)}, id="half of a message"
        ),
        pytest.param(grpc.StatusCode.UNIMPLEMENTED, {"body": EMPTY, "path": "/a.B/C"}, id="unknown method"),
        pytest.param(grpc.StatusCode.UNIMPLEMENTED, {"body": EMPTY, "path": "/a"}, id="no method at all"),
        *(
            pytest.param(grpc.StatusCode.UNIMPLEMENTED, {"body": EMPTY, "path": path}, id=f"disguised {path}")
            for path in ("/grpc.health.v1.Health%2FCheck", "/%67rpc.health.v1.Health/Check", f"{CHECK}?a")
        ),
        pytest.param(grpc.StatusCode.INTERNAL, {"body": EMPTY, "without": ["te"]}, id="no trailers wanted"),
        pytest.param(grpc.StatusCode.INTERNAL, {"body": EMPTY, "method": "GET"}, id="GET"),
        pytest.param(
            grpc.StatusCode.INTERNAL, {"body": EMPTY, "headers": [("grpc-timeout", "soon")]}, id="no timeout"
        ),
        pytest.param(
            grpc.StatusCode.RESOURCE_EXHAUSTED, {"body": framed(b"x" * (LIMIT + 1))}, id="over the limit"
        ),
        pytest.param(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            {"body": framed(b"", length=LIMIT + 1), "end": False},
            id="over the limit by its length",
        ),
        pytest.param(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            {"body": framed(gzip.compress(b"\0" * (LIMIT + 1)), flag=1), "headers": GZIP, "path": BATCH},
            id="a bomb",
        ),
        pytest.param(
            grpc.StatusCode.INVALID_ARGUMENT, {"body": framed(b"\xff" * LIMIT), "path": VERIFY}, id="the most"
        ),
        pytest.param(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            {"body": b"\0", "end": False, "headers": [("grpc-timeout", "100m")]},
            id="deadline while sending",
        ),
        pytest.param(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            {"body": EMPTY, "headers": [("grpc-timeout", "0S")]},
            id="deadline before the start",
        ),
    ],
)
def test_each_malformed_request_is_answered_as_by_grpc(
    world: World, expected: grpc.StatusCode, request_: dict[str, Any]
) -> None:
    answer = raw_http2.call(world.target, **{"path": CHECK} | request_)

    assert status(answer) is expected


def test_an_unknown_encoding_is_refused_with_those_that_are_known(world: World) -> None:
    """The gRPC specification demands UNIMPLEMENTED, but gRPC's core answers INTERNAL.

    The test accepts both.
    """
    answer = raw_http2.call(world.target, CHECK, EMPTY, headers=[("grpc-encoding", "snappy")])

    assert status(answer) in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)
    if status(answer) is grpc.StatusCode.UNIMPLEMENTED:
        assert answer.headers["grpc-accept-encoding"] == "identity, gzip, deflate"


@pytest.mark.parametrize("headers", [[], GZIP], ids=["not said how", "no gzip"])
def test_a_message_that_only_claims_to_be_compressed_is_refused(
    world: World, headers: list[tuple[str, str]]
) -> None:
    """The core does not tell Python that a message is marked as compressed, so grpcio parses it as it is."""
    answer = raw_http2.call(world.target, CHECK, framed(b"junk", flag=1), headers=headers)

    assert status(answer) in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_clients_may_compress(world: World, compression: grpc.Compression) -> None:
    token = world.issue(world.new_client()).access_token
    with grpc.insecure_channel(world.target, compression=compression) as channel:
        world.channel = channel
        world.__post_init__()

        assert world.reason(token) == ""


@pytest.mark.settings(audit_traffic="store")
def test_headers_of_proxies_do_not_change_the_address_of_the_caller(world: World) -> None:
    """Without the setting `trusted_proxies`, the headers in which proxies name the client have no effect."""
    client = world.new_client()
    metadata = (("x-forwarded-for", "192.0.2.1"), ("x-envoy-external-address", "192.0.2.1"))

    world.stub.Issue(pb.IssueRequest(credential=client.credential), metadata=metadata)

    until(lambda: bool(issued(world, client.id)))
    (event,) = issued(world, client.id)
    assert event.peer.startswith("127.0.0.1:")


def issued(world: World, client_id: str) -> list[AuditEvent]:
    return [event for event in events(world, client_id) if event.type is AuditType.TOKEN_ISSUED]
