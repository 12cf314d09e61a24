"""Clients that do not send, do not read, or exceed their limits: the answers that they get."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from identity_service.domain.ids import TokenId
from identity_service.grpc_api.core.calls import OpenCall
from identity_service.grpc_api.core.check import why_not
from identityapi.v1 import admin_service_pb2 as admin_pb
from identityapi.v1 import admin_service_pb2_grpc as admin_rpc
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as identity_rpc
from identityapi.v1 import trust_service_pb2 as trust_pb
from identityapi.v1 import trust_service_pb2_grpc as trust_rpc
from tests.patience import PATIENCE, until
from tests.rpc import raw_http2
from tests.rpc.conftest import StartWorld
from tests.rpc.engines import change
from tests.rpc.slow_http2 import SlowClient
from tests.rpc.watching import watching
from tests.rpc.world import Failure, World, failure

SOON = timedelta(milliseconds=300)
VERIFY = "/identityapi.v1.IdentityService/Verify"
ISSUE = "/identityapi.v1.IdentityService/Issue"
KEYS = "/identityapi.v1.TrustService/GetKeys"
WATCH = "/identityapi.v1.TrustService/Watch"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
CANCELLED = str(grpc.StatusCode.CANCELLED.value[0])
INVALID_ARGUMENT = str(grpc.StatusCode.INVALID_ARGUMENT.value[0])
DEADLINE_EXCEEDED = str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
RESOURCE_EXHAUSTED = str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
STRANGER = "127.0.0.2"
"""A loopback address that the other clients of a test do not use."""
HALF_A_MESSAGE = b"\0\0\0\0\x64half"
EMPTY = bytes(5)
OF_ITS_OWN = [("grpc.use_local_subchannel_pool", 1)]
"""Channel options that give the channel a connection of its own."""
SMALL_WINDOW = [*OF_ITS_OWN, ("grpc.http2.bdp_probe", 0)]
"""Channel options that give the channel a connection of its own, with a window that stays at 64 KiB."""


def refused(call: Any) -> Failure:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return failure(error.value)


def reflect(world: World, requests: Iterator[Any]) -> Any:
    call: Any = world.channel.stream_stream(
        REFLECTION,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return call(requests, timeout=PATIENCE)


@pytest.mark.parametrize("path", [VERIFY, ISSUE, HEALTH_WATCH, REFLECTION])
def test_a_request_that_does_not_arrive_whole_in_time_is_ended(start_world: StartWorld, path: str) -> None:
    world = start_world(request_timeout=SOON, reflection=True)

    answer = raw_http2.call(world.target, path, HALF_A_MESSAGE, end=False)

    assert answer.grpc_status == DEADLINE_EXCEEDED
    assert "did not arrive within 0.3 s" in answer.headers["grpc-message"].replace("%20", " ")
    assert "grpc-status-details-bin" in answer.headers


@pytest.mark.in_process
def test_a_client_that_sends_headers_alone_gets_the_same_answer(start_world: StartWorld) -> None:
    """On the Envoy engine, a timeout of Envoy ends such a call; test_envoy_limits.py tests that."""
    world = start_world(request_timeout=SOON)

    answer = raw_http2.call(world.target, VERIFY, b"", end=False)

    assert answer.grpc_status == DEADLINE_EXCEEDED


def test_a_client_that_sends_headers_alone_gets_the_same_answer_with_reflection_on(
    start_world: StartWorld,
) -> None:
    """With reflection on, Envoy has no timeout for requests, so the service itself ends the call."""
    world = start_world(request_timeout=SOON, reflection=True)

    answer = raw_http2.call(world.target, VERIFY, b"", end=False, headers=[("grpc-timeout", "20S")])

    assert answer.grpc_status == DEADLINE_EXCEEDED
    assert "grpc-status-details-bin" in answer.headers


@pytest.mark.in_process
def test_an_answer_that_is_not_read_in_time_is_given_up(start_world: StartWorld) -> None:
    world = start_world(send_timeout=SOON)

    answer = raw_http2.call(world.target, KEYS, EMPTY, window=0)

    assert (answer.grpc_status, answer.body) == (CANCELLED, b"")
    until(lambda: world.service._apis.limits.calls.open == 0)
    assert world.service._apis.limits.refusals["send_timeout"] == 1


@pytest.mark.in_process
@pytest.mark.parametrize("path", [WATCH, HEALTH_WATCH])
def test_a_message_of_a_stream_that_is_not_read_in_time_ends_it(start_world: StartWorld, path: str) -> None:
    """The service ends the stream.

    On the Envoy engine, Envoy does so after the stream was idle for 2 minutes.
    """
    world = start_world(send_timeout=SOON, limits_exempt=())

    answer = raw_http2.call(world.target, path, EMPTY, window=0)

    assert (answer.grpc_status, answer.body) == (CANCELLED, b"")
    until(lambda: world.service._apis.limits.calls.open == 0)
    assert world.service._apis.limits.refusals["send_timeout"] == 1


@pytest.mark.in_process
def test_a_watcher_whose_queue_is_full_is_cut_off_with_that_reason_and_counted(
    start_world: StartWorld,
) -> None:
    """On grpcio only: Envoy buffers so many messages that the queue of the watcher would not become full."""
    world = start_world(send_timeout=timedelta(seconds=2 * PATIENCE), watch_queue=10)
    with grpc.insecure_channel(world.target, options=SMALL_WINDOW) as channel:
        stream = trust_rpc.TrustServiceStub(channel).Watch(trust_pb.WatchRequest(), timeout=PATIENCE)
        next(stream)
        for number in range(40):
            name = TokenId(f"{number:04}" + "x" * 20_000)
            world.store.facts.deny_token(name, world.clock.now() + timedelta(hours=1))
            # One at a time, since changes that the service reads together are sent as one message.
            until(lambda name=name: name in world.service._replica.revocations.denylist)  # type: ignore[misc]
        error = refused(lambda: list(stream))

    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "WATCHER_TOO_SLOW")
    until(lambda: world.service._apis.limits.refusals["watch_queue"] == 1)


@pytest.mark.in_process
def test_an_answer_of_a_conversation_that_is_not_read_in_time_ends_it(start_world: StartWorld) -> None:
    """A conversation is a stream in both directions, as reflection has. The service ends it.

    On the Envoy engine, Envoy does so after the stream was idle for 2 minutes.
    """
    world = start_world(send_timeout=SOON, reflection=True)
    services = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    message = b"\0" + len(services).to_bytes(4, "big") + services

    answer = raw_http2.call(
        world.target, REFLECTION, message, end=False, window=0, headers=[("grpc-timeout", "10S")]
    )

    assert answer.grpc_status == CANCELLED
    until(lambda: world.service._apis.limits.calls.open == 0)
    assert world.service._apis.limits.refusals["send_timeout"] == 1


def test_calls_beyond_the_bound_of_an_address_are_refused_until_one_has_ended(
    start_world: StartWorld,
) -> None:
    world = start_world(max_calls_per_peer=1, limits_exempt=())
    token = world.issue(world.new_client()).access_token

    held: list[Any] = []

    def watches() -> bool:
        """Return whether Watch is admitted. The call before may still count for a moment after its answer."""
        held[:] = [trust_rpc.TrustServiceStub(world.channel).Watch(trust_pb.WatchRequest(), timeout=PATIENCE)]
        with suppress(grpc.RpcError):
            return bool(next(held[0]))
        return False

    until(watches)
    error = refused(lambda: world.verify(token))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER_BUSY")
    assert "too many open calls from your address (1)" in error.message
    assert error.retry_after
    held[0].cancel()

    until(lambda: is_admitted(world, token))


def is_admitted(world: World, token: str) -> bool:
    with suppress(grpc.RpcError):
        return world.verify(token).HasField("verified")
    return False


@pytest.mark.parametrize("sent", [b"", HALF_A_MESSAGE])
def test_unfinished_requests_beyond_the_bound_of_an_address_are_refused(
    start_world: StartWorld, sent: bytes
) -> None:
    world = start_world(max_receives_per_peer=1, limits_exempt=(), request_timeout=timedelta(minutes=5))

    with SlowClient(world.target) as client:
        first = client.call(VERIFY, HALF_A_MESSAGE)
        answer = client.answer(client.call(VERIFY, sent))
        assert not client.has_ended(first)

    assert answer.grpc_status == RESOURCE_EXHAUSTED
    message = answer.headers["grpc-message"].replace("%20", " ")
    assert "too many unfinished requests from your address (1)" in message
    assert "grpc-status-details-bin" in answer.headers


@pytest.mark.in_process
def test_a_request_beyond_the_bound_of_its_address_for_too_long_counts_under_that_bound(
    start_world: StartWorld,
) -> None:
    world = start_world(max_receives_per_peer=1, limits_exempt=(), request_timeout=timedelta(minutes=5))

    with SlowClient(world.target) as client:
        client.call(VERIFY, HALF_A_MESSAGE)
        client.answer(client.call(VERIFY))

        assert world.service._apis.limits.refusals["max_receives_per_peer"] == 1
        assert world.service._apis.limits.receives.open == 1
        assert world.service._apis.limits.refusals["request_timeout"] == 0


def give_time_to_send(world: World, seconds: float) -> None:
    """Set the seconds that a request has to arrive if its call is beyond the limit of its address.

    A test sets a long time, so that a slow machine does not make calls fail.
    """
    change(world.service, "_apis.limits", receive_grace=seconds)


def test_whole_requests_beyond_the_bound_of_an_address_are_answered(start_world: StartWorld) -> None:
    """The headers of all calls arrive first, so most calls are beyond the limit for a moment."""
    world = start_world(limits_exempt=())
    give_time_to_send(world, 2 * PATIENCE)

    with SlowClient(world.target) as client:
        client.acknowledge_settings()
        calls = [client.call(VERIFY) for _ in range(100)]
        for call in calls:
            client.send(call, EMPTY, end=True)
        answers = [client.answer(call) for call in calls]

    assert {answer.grpc_status for answer in answers} == {INVALID_ARGUMENT}  # of Verify itself: no token


def assert_all_verified_at_once(world: World, count: int) -> None:
    """Assert that this many concurrent calls of Verify on one channel all succeed."""
    give_time_to_send(world, 2 * PATIENCE)
    request = pb.VerifyRequest(token=world.issue(world.new_client()).access_token, any_audience=True)

    with grpc.insecure_channel(world.target, options=OF_ITS_OWN) as channel:
        stub = identity_rpc.IdentityServiceStub(channel)
        calls = [stub.Verify.future(request, timeout=PATIENCE) for _ in range(count)]
        assert all(call.result().HasField("verified") for call in calls)


def test_as_many_calls_as_a_connection_may_have_are_all_accepted(start_world: StartWorld) -> None:
    # No more than that: gRPC's core counts a stream for a moment after its client has the answer.
    assert_all_verified_at_once(start_world(limits_exempt=()), 100)


def test_five_hundred_calls_at_once_on_one_channel_are_all_answered(start_world: StartWorld) -> None:
    """Envoy passes on 100 of the calls at a time."""
    assert_all_verified_at_once(start_world(limits_exempt=(), max_streams_per_connection=500), 500)


def use_up_the_time_to_send(world: World, client: SlowClient, bound: int) -> None:
    """Open one call beyond the limit, and send no request until the service has refused that call.

    The grace is the time that such a request has to arrive. Afterwards this function sets a long grace, so
    that a slow machine does not make calls of other addresses fail.
    """
    change(world.service, "_apis.limits.strikes", seconds=2 * PATIENCE)
    calls = [client.call(VERIFY) for _ in range(bound + 1)]
    (refused,) = client.first_ended(calls)
    assert client.answer(refused).grpc_status == RESOURCE_EXHAUSTED
    give_time_to_send(world, 2 * PATIENCE)


def test_an_address_that_used_up_the_time_to_send_is_refused_at_once(start_world: StartWorld) -> None:
    world = start_world(max_receives_per_peer=1, limits_exempt=(), request_timeout=timedelta(minutes=5))

    with SlowClient(world.target) as client:
        use_up_the_time_to_send(world, client, bound=1)
        answers = [client.answer(client.call(VERIFY)) for _ in range(3)]

    assert {answer.grpc_status for answer in answers} == {RESOURCE_EXHAUSTED}


def test_an_address_that_used_up_the_time_to_send_takes_none_from_others(start_world: StartWorld) -> None:
    """An address that sent no request in its grace gets no further grace.

    Otherwise its calls would fill half of `max_receives`, and no other address would get a grace.
    """
    world = start_world(max_receives=300, limits_exempt=(), request_timeout=timedelta(minutes=5))
    request = pb.VerifyRequest(token=world.issue(world.new_client()).access_token, any_audience=True)

    with ExitStack() as stack:
        strangers = [stack.enter_context(SlowClient(world.target, source=STRANGER)) for _ in range(3)]
        use_up_the_time_to_send(world, strangers[0], bound=32)
        for stranger in strangers[1:]:
            calls = [stranger.call(VERIFY) for _ in range(60)]
            assert stranger.answer(calls[0]).grpc_status == RESOURCE_EXHAUSTED
        channel = stack.enter_context(grpc.insecure_channel(world.target, options=OF_ITS_OWN))
        stub = identity_rpc.IdentityServiceStub(channel)
        burst = [stub.Verify.future(request, timeout=PATIENCE) for _ in range(100)]
        assert all(call.result().HasField("verified") for call in burst)


@pytest.mark.parametrize("bound", ["max_calls_per_peer", "max_receives_per_peer"])
def test_of_many_calls_beyond_a_bound_of_their_address_some_wait_to_be_refused(
    start_world: StartWorld, bound: str
) -> None:
    """The service refuses 50 calls at once, and lets the others wait.

    Another address is answered meanwhile.
    """
    world = start_world(limits_exempt=(), request_timeout=timedelta(minutes=5), **{bound: 1})
    change(world.service, "_apis.limits.turns", interval=1_000_000.0)
    with SlowClient(world.target, source=STRANGER) as stranger, SlowClient(world.target) as other:
        if bound == "max_receives_per_peer":
            use_up_the_time_to_send(world, stranger, bound=1)
        calls = [stranger.call(VERIFY) for _ in range(90)]
        stranger.first_ended(calls, 50)

        answer = other.answer(other.call(VERIFY, EMPTY, end=True))

        assert answer.grpc_status == INVALID_ARGUMENT  # of Verify itself: no token
        stranger.catch_up()
        assert sum(map(stranger.has_ended, calls)) in (50, 51)


def test_calls_that_wait_to_be_refused_are_refused_in_the_end(start_world: StartWorld) -> None:
    world = start_world(max_calls_per_peer=1, limits_exempt=(), request_timeout=timedelta(minutes=5))

    with SlowClient(world.target) as client:
        _, *calls = [client.call(VERIFY) for _ in range(99)]
        answers = [client.answer(call) for call in calls]

    assert {answer.grpc_status for answer in answers} == {RESOURCE_EXHAUSTED}
    assert all("grpc-status-details-bin" in answer.headers for answer in answers)


@pytest.mark.in_process
def test_the_window_of_a_stream_does_not_grow(start_world: StartWorld) -> None:
    """Calls that wait to be refused may fill their window, so a larger one would cost memory.

    Envoy never enlarges the window.
    """
    world = start_world()
    body = bytes(1) + (2**20).to_bytes(4, "big") + bytes(2**20)

    with SlowClient(world.target) as client:
        client.acknowledge_settings()
        for _ in range(20):
            assert client.answer(client.call(VERIFY, body, end=True)).grpc_status == INVALID_ARGUMENT

        assert client.window == 65_535


def test_the_bound_of_unfinished_requests_in_all_refuses_at_once(start_world: StartWorld) -> None:
    world = start_world(max_receives=1, limits_exempt=(), request_timeout=timedelta(minutes=5))
    give_time_to_send(world, 2 * PATIENCE)

    with SlowClient(world.target) as client:
        client.call(VERIFY, HALF_A_MESSAGE)
        answer = client.answer(client.call(VERIFY, HALF_A_MESSAGE))

    assert answer.grpc_status == RESOURCE_EXHAUSTED
    assert "on this process (1)" in answer.headers["grpc-message"].replace("%20", " ")


def test_an_exempt_address_has_no_bound_of_its_own(start_world: StartWorld) -> None:
    world = start_world(max_calls_per_peer=1, limits_exempt=("127.0.0.0/8",))

    with watching(world) as watcher:
        watcher.until(lambda w: w.complete)
        assert world.issue(world.new_client()).access_token


def test_watchers_of_health_are_bounded(start_world: StartWorld) -> None:
    world = start_world(max_health_watchers=1)
    stub = health_pb2_grpc.HealthStub(world.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

    error = refused(lambda: list(stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)))

    assert error.reason == "SERVER_BUSY"
    assert "too many watchers of health on this process (1)" in error.message
    watch.cancel()


def test_streams_of_reflection_are_bounded(start_world: StartWorld) -> None:
    world = start_world(reflection=True, max_reflection_streams_per_peer=0, limits_exempt=())

    error = refused(
        lambda: list(reflect(world, iter([reflection_pb2.ServerReflectionRequest(list_services="")])))
    )

    assert error.reason == "SERVER_BUSY"
    assert "too many streams of reflection from your address (0)" in error.message


def test_tails_of_the_audit_trail_are_bounded(start_world: StartWorld) -> None:
    world = start_world(max_audit_tails=1)
    stub: Any = admin_rpc.AdminServiceStub(world.channel)
    metadata = (("authorization", f"Bearer {world.admin_token(['identity.admin'])}"),)
    tail = stub.TailAuditEvents(admin_pb.TailAuditEventsRequest(), metadata=metadata, timeout=PATIENCE)
    tail.initial_metadata()

    error = refused(
        lambda: list(
            stub.TailAuditEvents(admin_pb.TailAuditEventsRequest(), metadata=metadata, timeout=PATIENCE)
        )
    )

    assert error.reason == "SERVER_BUSY"
    tail.cancel()


def test_a_conversation_goes_on_for_as_many_messages_as_the_client_sends(start_world: StartWorld) -> None:
    world = start_world(reflection=True)
    requests = [reflection_pb2.ServerReflectionRequest(list_services="", host=str(n)) for n in range(50)]

    answers = list(reflect(world, iter(requests)))

    assert [answer.original_request.host for answer in answers] == [request.host for request in requests]


def test_the_check_finds_this_grpcio_good() -> None:
    assert why_not() == ""


def test_the_check_needs_no_directory_that_may_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check whether the installed grpcio works needs no file system.

    On a read-only file system, the check once could create no socket, and the service did not use a good
    grpcio.
    """
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")

    assert why_not() == ""


def test_the_check_uses_a_file_if_there_are_no_abstract_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")

    assert why_not() == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_check_finds_a_grpcio_with_another_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("identity_service.grpc_api.core.check._PATIENCE", 0.5)
    monkeypatch.setattr(OpenCall, "receive", lambda call, received: received.of_another_interface)

    assert "grpcio" in why_not()


def test_the_check_finds_that_threads_wait_for_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the installed grpcio finds a version that hands calls to Python in another way.

    With such a version, threads of the service would wait for clients that send nothing.
    """
    monkeypatch.setattr("identity_service.grpc_api.core.check._PATIENCE", 0.5)
    monkeypatch.setattr(
        "identity_service.grpc_api.core.check.Receiver", lambda calls, threads: ThreadPoolExecutor(1)
    )

    assert "grpcio" in why_not()


@pytest.mark.in_process
def test_the_fallback_is_reported_and_answers_beside_more_slow_clients_than_it_has_threads(
    monkeypatch: pytest.MonkeyPatch, start_world: StartWorld, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("identity_service.grpc_api.grpcio_engine.why_not", lambda: "an unknown version")
    world = start_world(reflection=True, verify_threads=2, strong_limit=1)
    token = world.issue(world.new_client()).access_token
    assert "grpcio_fallback" in "".join(capfd.readouterr())
    slow: Any = world.channel.stream_unary(VERIFY)
    waiting = [slow.future(_never(), timeout=PATIENCE) for _ in range(20)]

    with watching(world) as watcher:
        watcher.until(lambda w: w.complete)
        assert world.verify(token).HasField("verified")
        world.revoke(world.admin_token(), token=token)
        assert world.reason(token) == "REVOKED"
    answers = list(reflect(world, iter([reflection_pb2.ServerReflectionRequest(list_services="")] * 3)))

    assert len(answers) == 3
    for call in waiting:
        call.cancel()


@pytest.mark.in_process
def test_the_fallback_ends_a_stream_that_is_not_read_in_time(
    monkeypatch: pytest.MonkeyPatch, start_world: StartWorld
) -> None:
    monkeypatch.setattr("identity_service.grpc_api.grpcio_engine.why_not", lambda: "an unknown version")
    world = start_world(send_timeout=SOON, limits_exempt=())

    answer = raw_http2.call(world.target, WATCH, EMPTY, window=0)

    assert (answer.grpc_status, answer.body) == (CANCELLED, b"")
    until(lambda: world.service._apis.limits.refusals["send_timeout"] == 1)


def _never() -> Iterator[bytes]:
    """Yield the requests of a client that sends none until long after the test."""
    threading.Event().wait(PATIENCE)
    yield b""


def test_a_call_of_an_unknown_method_is_refused(start_world: StartWorld) -> None:
    world = start_world()
    unknown: Any = world.channel.unary_unary("/identityapi.v1.IdentityService/Nothing")

    with pytest.raises(grpc.RpcError) as error:
        unknown(pb.VerifyRequest().SerializeToString())

    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
