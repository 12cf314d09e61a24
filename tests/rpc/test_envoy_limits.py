"""The limits that Envoy enforces: each takes effect, and calls of other clients are still answered.

docs/engines.md lists the limits.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hpack import Encoder

from identity_service.envoy.configuration import EnvoyConfig
from identity_service.envoy.limits import EnvoyLimits
from identity_service.envoy.service import envoy_config
from identity_service.settings import Settings
from tests.patience import PATIENCE, until
from tests.rpc.conftest import ENVOY, running_in_envoy, settings_for_tests
from tests.rpc.engines import EnvoyHost, change
from tests.rpc.envoy_inside import StoreAddress
from tests.rpc.slow_http2 import SlowClient
from tests.rpc.world import World, bearer
from tests.tls import Certifier

CHECK = "/grpc.health.v1.Health/Check"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
TAIL = "/identityapi.v1.AdminService/TailAuditEvents"
VERIFY = "/identityapi.v1.IdentityService/Verify"
WATCH = "/identityapi.v1.TrustService/Watch"
EMPTY = bytes(5)
"""A gRPC message of zero bytes: the prefix alone."""
MIB = 2**20
STREAMS = 5
RESETS = 500
"""The number of streams that a client resets: more than Envoy's limit, and fewer than the limit that its
HTTP/2 codec has anyway (about 1,000)."""
DEADLINE_EXCEEDED = str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
RESOURCE_EXHAUSTED = str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
INTERNAL_ERROR, REFUSED_STREAM = 2, 7
"""Error codes of HTTP/2."""

Start = Callable[..., AbstractContextManager[World]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """A function that starts a service in an Envoy of its own, with given settings and limits."""

    @contextmanager
    def started(*, bounds: dict[str, object] | None = None, **changes: object) -> Iterator[World]:
        folder = tmp_path_factory.mktemp("envoy")
        settings = settings_for_tests(engine=ENVOY, reflection=False, **changes)
        store = StoreAddress(kind="sqlite", place=str(folder / "identity.db"))
        with (
            closing(EnvoyHost(settings, folder, with_bounds(settings, **bounds or {}))) as host,
            running_in_envoy(host, settings, store, folder) as world,
        ):
            yield world

    return started


def with_bounds(settings: Settings, **bounds: object) -> EnvoyConfig:
    config = envoy_config(settings)
    limits: EnvoyLimits = replace(config.limits, **bounds)  # type: ignore[arg-type]
    return replace(config, limits=limits)


@pytest.fixture(scope="module")
def world(start: Start) -> Iterator[World]:
    """A service with low limits. Envoy ends requests after 1 s, long before Python would (5 minutes)."""
    second = timedelta(seconds=1)
    with start(
        bounds={"request_timeout": second, "send_timeout": second},
        request_timeout=timedelta(minutes=5),
        max_streams_per_connection=STREAMS,
    ) as world:
        yield world


def serves(world: World) -> bool:
    """Return whether a call of another client succeeds."""
    with grpc.insecure_channel(world.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        return status(channel) is grpc.StatusCode.OK


def status(channel: grpc.Channel) -> grpc.StatusCode:
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_a_stream_over_the_limit_is_refused(world: World) -> None:
    """The streams below the limit go on, although the client did not know the limit when it opened them."""
    with SlowClient(world.target) as client:
        *first, last = [client.call(HEALTH_WATCH, EMPTY, end=True) for _ in range(STREAMS + 1)]

        assert client.answer(last).reset == REFUSED_STREAM
        assert not any(client.has_ended(stream) for stream in first)


def test_a_client_that_ignores_the_limit_of_streams_is_disconnected(world: World) -> None:
    with SlowClient(world.target) as client:
        client.ignore_limit()
        for _ in range(STREAMS + 1):
            client.call(HEALTH_WATCH, EMPTY, end=True)
        while not client.closed:
            client.read()

    assert serves(world)


def test_a_request_that_does_not_end_is_ended(world: World) -> None:
    """The client gets DEADLINE_EXCEEDED. Envoy's own HTTP status for a timeout would become UNKNOWN."""
    with SlowClient(world.target) as client:
        answer = client.answer(client.call(VERIFY, EMPTY[:3]))

    assert answer.grpc_status == DEADLINE_EXCEEDED


def test_a_call_that_waits_to_be_refused_is_refused_once_it_sends_something(start: Start) -> None:
    """The refusal comes at once, because the request could take up to 256 KiB while the call waits."""
    with start(max_calls_per_peer=1, limits_exempt=()) as world, SlowClient(world.target) as client:
        change(world.service, "_apis.limits.turns", interval=1_000_000.0)
        calls = [client.call(VERIFY) for _ in range(90)]
        client.answer(calls[50])
        client.catch_up()
        assert not client.has_ended(calls[-1])

        client.send(calls[-1], EMPTY)

        assert client.answer(calls[-1]).grpc_status == RESOURCE_EXHAUSTED
        assert not client.has_ended(calls[-2])


def test_headers_that_do_not_end_are_ended(start: Start) -> None:
    """The client sends a HEADERS frame without END_HEADERS. Only Envoy sees it, so only Envoy can end it."""
    only = {"request_timeout": timedelta(seconds=1), "open_ended": True, "stream_idle": timedelta(hours=1)}
    block = Encoder().encode([(":method", "POST"), (":path", CHECK)])
    with start(bounds=only) as world, connected(world) as sock:
        settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0)
        sock.sendall(settings + frame(1, 1, block))
        with sock.makefile("rb") as received:
            while kind_and_stream(received.read(9), received.read) != (1, 1):
                pass


def connected(world: World) -> socket.socket:
    """Return a TCP connection on which nothing has been sent yet."""
    host, _, port = world.target.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def frame(kind: int, stream: int, payload: bytes = b"") -> bytes:
    """Return an HTTP/2 frame without flags."""
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big") + payload


def kind_and_stream(head: bytes, read: Callable[[int], bytes]) -> tuple[int, int]:
    """Skip a frame with this header; return its type and its stream. Raises IndexError at the end."""
    read(int.from_bytes(head[:3], "big"))
    return head[3], int.from_bytes(head[5:9], "big")


def test_an_answer_that_is_not_read_is_dropped(world: World) -> None:
    with SlowClient(world.target, reads=False) as client:
        answer = client.answer(client.call(CHECK, EMPTY, end=True))

    assert answer.http_status == "200"
    assert answer.reset == INTERNAL_ERROR


def test_a_client_that_resets_its_streams_is_disconnected(world: World) -> None:
    with SlowClient(world.target) as client:
        for _ in range(RESETS):
            client.cancel(client.call(VERIFY))
        while not client.closed:
            client.read()

    assert serves(world)


def test_a_stream_that_python_cannot_end_is_reset_once_it_is_idle(start: Start) -> None:
    """A watcher reads nothing until Envoy's buffer is full, so the end that Python sends cannot reach it.

    Envoy resets such a stream. A stream with no messages for the same time, but with a client that reads,
    goes on.
    """
    with (
        start(bounds={"stream_idle": timedelta(seconds=1)}) as world,
        SlowClient(world.target, reads=False) as deaf,
        SlowClient(world.target) as quiet,
    ):
        for number in range(40):
            name = f"{number:02}" + "x" * 20_000
            world.store.facts.deny_token(name, world.clock.now() + timedelta(hours=1))  # type: ignore[arg-type]
        token = world.admin_token(scopes=["identity.admin"])
        tail = quiet.call(TAIL, EMPTY, metadata=bearer(token), end=True)

        assert deaf.answer(deaf.call(WATCH, EMPTY, end=True)).reset is not None
        # the tail may have sent the event of the issue of its token while the first was idle
        for _ in range(2):
            assert quiet.answer(quiet.call(VERIFY)).grpc_status == DEADLINE_EXCEEDED
        assert not quiet.has_ended(tail)


def test_connections_over_the_limit_are_closed_and_those_below_it_can_still_be_drained(start: Start) -> None:
    """The order to drain reaches Envoy over a connection, which the limit must not refuse."""
    with start(max_connections=3) as world, ExitStack() as cleanup:
        held = [cleanup.enter_context(SlowClient(world.target)) for _ in range(3)]
        for client in held:
            assert client.read()
        with SlowClient(world.target) as refused:
            assert not refused.read()

        world.service.drain()  # type: ignore[attr-defined]

        for client in held:
            client.call(CHECK, EMPTY, end=True)  # Envoy sends GOAWAY with the answer
            while not client.closed:
                client.read()


def test_a_service_that_drains_takes_no_connections_and_answers_those_that_there_are(start: Start) -> None:
    with start() as world:
        assert status(world.channel) is grpc.StatusCode.OK

        world.service.drain()  # type: ignore[attr-defined]

        def is_refused() -> bool:
            with suppress(ConnectionRefusedError), SlowClient(world.target):
                return False
            return True

        until(is_refused)
        assert status(world.channel) is grpc.StatusCode.OK


def test_a_connection_that_is_old_is_asked_to_leave(start: Start) -> None:
    with start(max_connection_age=timedelta(seconds=1)) as world, SlowClient(world.target) as client:
        while not client.closed:
            client.read()


def test_a_handshake_that_does_not_end_is_ended(start: Start, tmp_path: Path) -> None:
    tls = Certifier(tmp_path / "tls").server().settings()
    with start(request_timeout=timedelta(seconds=1), **tls) as world, connected(world) as sock:
        assert sock.recv(1) == b""


def test_calls_are_refused_while_memory_is_short_and_served_again_after(start: Start) -> None:
    with start(envoy_memory=128 * MIB, request_timeout=timedelta(minutes=5)) as world:
        with ExitStack() as cleanup:
            clients: list[SlowClient] = []

            def is_full() -> bool:
                assert len(clients) < 64
                clients.append(cleanup.enter_context(SlowClient(world.target)))
                clients[-1].call(VERIFY, bytes(1) + (16 * MIB).to_bytes(4, "big") + bytes(15 * MIB))
                return status(world.channel) is grpc.StatusCode.UNAVAILABLE

            until(is_full)
        until(lambda: status(world.channel) is grpc.StatusCode.OK)
