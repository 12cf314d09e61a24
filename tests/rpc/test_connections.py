"""Limits of gRPC's core for each connection: the size of metadata, the age, and pings of both sides.

test_envoy_limits.py tests the limits of Envoy.
"""

import socket
from collections.abc import Callable, Iterator

import pytest
from h2.events import PingReceived

from identity_service.grpc_api import grpcio_engine
from tests.abuse import frames
from tests.patience import PATIENCE
from tests.rpc import raw_http2
from tests.rpc.conftest import StartWorld
from tests.rpc.slow_http2 import SlowClient

CHECK = "/grpc.health.v1.Health/Check"
EMPTY = bytes(5)
KIB = 1024
OK, RESOURCE_EXHAUSTED = "0", "8"

Options = list[tuple[str, int]]


def test_a_call_with_more_than_32_kib_of_metadata_is_refused(start_world: StartWorld) -> None:
    """The core refuses some calls with 32 to 40 KiB of metadata, and all calls with more than 40 KiB."""
    world = start_world()

    def status(size: int) -> str:
        with SlowClient(world.target) as client:
            client.acknowledge_settings()  # the core enforces no limit before
            metadata = [("x-large", "x" * size)]
            return client.answer(client.call(CHECK, EMPTY, metadata=metadata, end=True)).grpc_status

    assert status(30 * KIB) == OK
    assert status(48 * KIB) == RESOURCE_EXHAUSTED


@pytest.mark.in_process
def test_a_connection_that_is_old_is_asked_to_leave(start_world: StartWorld) -> None:
    world = start_world(max_connection_age="1s")

    with SlowClient(world.target) as client:
        while not client.closed:
            client.read()


@pytest.mark.in_process
def test_a_client_that_sends_many_pings_is_disconnected(start_world: StartWorld) -> None:
    world = start_world()

    with SlowClient(world.target) as client:
        for _ in range(10):
            client.ping()
        while not client.closed:
            client.read()

    assert raw_http2.call(world.target, CHECK, EMPTY).grpc_status == OK


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that makes an option of the server, a time in milliseconds, a hundred times shorter."""

    def hurry(hurried: str) -> None:
        options = grpcio_engine._options

        def changed(config: grpcio_engine.GrpcioConfig) -> Options:
            assert hurried in dict(options(config))
            return [(name, value // 100 if name == hurried else value) for name, value in options(config)]

        monkeypatch.setattr(grpcio_engine, "_options", changed)

    return hurry


@pytest.mark.in_process
def test_a_client_that_answers_no_ping_is_disconnected(
    start_world: StartWorld, hurry: Callable[[str], None]
) -> None:
    hurry("grpc.keepalive_time_ms")
    hurry("grpc.http2.ping_timeout_ms")
    world = start_world()
    host, _, port = world.target.rpartition(":")

    with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        sock.sendall(frames.PREFACE + frames.settings({}))
        received = kinds(sock)
        assert next(received) == frames.SETTINGS
        sock.sendall(frames.frame(frames.SETTINGS, frames.ACK, 0))

        assert frames.PING in list(received)


@pytest.mark.in_process
def test_a_client_that_answers_pings_stays_connected(
    start_world: StartWorld, hurry: Callable[[str], None]
) -> None:
    """The control of the test with a client that answers no ping.

    Pings are as frequent here, but the time to answer them is not shortened.
    """
    hurry("grpc.keepalive_time_ms")
    world = start_world()
    pings = 0

    with SlowClient(world.target) as client:
        while pings < 3:
            assert not client.closed
            pings += sum(isinstance(event, PingReceived) for event in client.read())


def kinds(sock: socket.socket) -> Iterator[int]:
    """Yield the types of the HTTP/2 frames that arrive until the server closes the connection."""
    with sock.makefile("rb") as received:
        while head := received.read(9):
            received.read(int.from_bytes(head[:3]))
            yield head[3]
