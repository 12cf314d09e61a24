"""The handling that all calls share: policy, request ids, unexpected exceptions, health, and reflection."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from identity_service.grpc_api.issue import IssueServicer
from identity_service.grpc_api.method_spec import MethodSpec
from identity_service.grpc_api.methods import method_table
from identity_service.grpc_api.verify import VerifyServicer
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1.trust_service_pb2 import WatchRequest
from identityapi.v1.trust_service_pb2_grpc import TrustServiceStub
from tests.patience import PATIENCE
from tests.rpc.conftest import StartWorld
from tests.rpc.world import API, World, bearer, failure

SERVICE = "identityapi.v1.IdentityService"
SERVICES = {
    SERVICE,
    "identityapi.v1.TrustService",
    "identityapi.v1.AdminService",
    "envoy.service.auth.v3.Authorization",
}


@pytest.mark.in_process
def test_a_method_without_an_entry_in_the_table_is_refused(
    start_world: StartWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_issue_and_watch(*parts: Any) -> dict[str, MethodSpec]:
        table = dict(method_table(*parts))
        del table[f"/{SERVICE}/Issue"], table["/identityapi.v1.TrustService/Watch"]
        return table

    monkeypatch.setattr("identity_service.grpc_api.server.method_table", without_issue_and_watch)
    world = start_world()

    calls: tuple[Callable[[], object], ...] = (
        lambda: world.stub.Issue(pb.IssueRequest()),
        lambda: next(TrustServiceStub(world.channel).Watch(WatchRequest())),
    )
    for call in calls:
        with pytest.raises(grpc.RpcError) as unlisted:
            call()
        assert failure(unlisted.value).code is grpc.StatusCode.PERMISSION_DENIED
        assert failure(unlisted.value).reason == "METHOD_NOT_ALLOWED"


@pytest.mark.in_process
@pytest.mark.parametrize("method", ["verify", "issue"])
def test_a_bug_is_opaque(
    start_world: StartWorld, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], method: str
) -> None:
    def faulty(*_: Any) -> Any:
        raise KeyError("the secret of the request")

    monkeypatch.setattr(VerifyServicer, "verify", faulty)
    monkeypatch.setattr(VerifyServicer, "verify_now", faulty)
    monkeypatch.setattr(IssueServicer, "issue", faulty)
    world = start_world()
    calls: dict[str, Callable[[], object]] = {
        "verify": lambda: world.stub.Verify(pb.VerifyRequest()),
        "issue": lambda: world.stub.Issue(pb.IssueRequest()),
    }

    with pytest.raises(grpc.RpcError) as bug:
        calls[method]()

    found = failure(bug.value)
    assert (found.code, found.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret of the request" not in found.message
    logged = "".join(capfd.readouterr())
    assert "secret of the request" not in logged
    assert found.request_id in logged


def test_a_request_id_is_taken_over_or_made(world: World) -> None:
    credential = world.new_client().credential
    request = pb.IssueRequest(credential=credential)

    _, given = world.stub.Issue.with_call(request, metadata=(("x-request-id", "my-id-7"),))
    _, made = world.stub.Issue.with_call(request)
    _, unusable = world.stub.Issue.with_call(request, metadata=(("x-request-id", "x" * 200),))

    ids = [dict(call.trailing_metadata() or ())["x-request-id"] for call in (given, made, unusable)]
    assert ids[0] == "my-id-7"
    assert len(ids[1]) == len(ids[2]) == 16
    with pytest.raises(grpc.RpcError) as error:
        world.stub.Verify(pb.VerifyRequest(), metadata=(("x-request-id", "my-id-8"),))
    assert failure(error.value).request_id == "my-id-8"


def test_callers_must_authenticate_if_the_setting_says_so(start_world: StartWorld) -> None:
    world = start_world(require_caller_auth=True)
    token = world.issue(world.new_client()).access_token
    request = pb.VerifyRequest(token=token, audiences=[API])
    batch = pb.VerifyBatchRequest(requests=[request])
    allowed = world.admin_token(scopes=["identity.verify"])
    other = world.admin_token(scopes=["identity.revoke"])

    for call, message in ((world.stub.Verify, request), (world.stub.VerifyBatch, batch)):
        method: Any = call
        for metadata, reason in (
            ((), "CALLER_UNAUTHENTICATED"),
            (bearer("nonsense"), "CALLER_UNAUTHENTICATED"),
            (bearer(token), "CALLER_UNAUTHENTICATED"),  # for another audience
            (bearer(allowed) * 2, "CALLER_UNAUTHENTICATED"),  # which of the two?
            ((("authorization", f"Basic {allowed}"),), "CALLER_UNAUTHENTICATED"),
            (bearer(other), "CALLER_SCOPE_MISSING"),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                method(message, metadata=metadata)
            assert failure(refused.value).reason == reason
        assert method(message, metadata=bearer(allowed))


def test_a_revoked_callers_token_opens_nothing(world: World) -> None:
    caller = world.admin_token()
    world.revoke(token=caller)

    with pytest.raises(grpc.RpcError) as refused:
        world.revoke(caller=caller, token_id="x")

    assert failure(refused.value).reason == "CALLER_UNAUTHENTICATED"


def test_health_is_reported_for_the_server_and_each_service(world: World) -> None:
    stub = health_pb2_grpc.HealthStub(world.channel)

    for name in ("", *SERVICES):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_watchers_of_health_come_and_go_at_once_and_calls_are_answered(world: World) -> None:
    """Once, a watcher that left while the server sent to another watcher made the server hang for good."""

    def come_and_go(_: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(world.target, options=options) as channel:
            for _ in range(25):
                watch = health_pb2_grpc.HealthStub(channel).Watch(
                    health_pb2.HealthCheckRequest(), timeout=PATIENCE
                )
                assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
                watch.cancel()

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(come_and_go, range(8)))

    check = health_pb2_grpc.HealthStub(world.channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    assert check.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_the_service(start_world: StartWorld, version: str) -> None:
    world = start_world(reflection=True)
    call = world.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    requests = (
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    )

    listed, described = call(iter(requests))

    assert {service.name for service in listed.list_services_response.service} >= SERVICES
    assert described.file_descriptor_response.file_descriptor_proto


def test_reflection_is_off_unless_it_is_turned_on(world: World) -> None:
    call: Any = world.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")

    with pytest.raises(grpc.RpcError) as refused:
        list(call(iter([b""])))

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_bytes_that_are_no_message_are_refused_on_streams_too(start_world: StartWorld) -> None:
    world = start_world(reflection=True)
    watch: Any = world.channel.unary_stream("/grpc.health.v1.Health/Watch")
    reflect: Any = world.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")

    for stream, sent in ((watch, b"\xff"), (reflect, iter([b"\xff"]))):
        with pytest.raises(grpc.RpcError) as refused:
            list(stream(sent))
        assert failure(refused.value).reason == "MALFORMED_REQUEST"


@pytest.mark.in_process
def test_a_call_whose_deadline_passed_while_it_waited_is_not_carried_out(
    start_world: StartWorld, capfd: pytest.CaptureFixture[str]
) -> None:
    """The call waits for a thread until its deadline has passed.

    When a thread is free, the service must not carry out the call.
    """
    world = start_world()
    client = world.new_client()
    release = threading.Event()
    work = world.service._apis.server._pools.work
    blocked = [work.submit(release.wait) for _ in range(world.settings.work_threads)]

    with pytest.raises(grpc.RpcError) as late:
        world.stub.Issue(pb.IssueRequest(credential=client.credential), timeout=0.2)
    release.set()
    wait(blocked)
    work.submit(lambda: None).result()  # behind the call in the queue

    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert world.issue(client).access_token
    logged = "".join(capfd.readouterr())
    assert logged.count("token_issued") == 1


@pytest.mark.in_process
@pytest.mark.parametrize("busy", ["memory", "work"])
def test_each_kind_of_work_has_threads_of_its_own(start_world: StartWorld, busy: str) -> None:
    """Calls that answer from memory continue while all threads for the store are busy, and vice versa."""
    world = start_world()
    client = world.new_client()
    token = world.issue(client).access_token
    threads = getattr(world.service._apis.server._pools, busy)
    release = threading.Event()
    held = [threads.submit(release.wait) for _ in range(threads.count)]
    # Not Verify: the engine may answer it without a thread.
    batch = pb.VerifyBatchRequest(requests=[pb.VerifyRequest(token=token, any_audience=True)])
    calls: dict[str, tuple[Any, Message]] = {
        "memory": (world.stub.VerifyBatch, batch),
        "work": (world.stub.Issue, pb.IssueRequest(credential=client.credential)),
    }
    held_up, request = calls.pop(busy)
    ((goes_on, other_request),) = calls.values()

    waiting = held_up.future(request, timeout=PATIENCE)
    assert goes_on(other_request, timeout=PATIENCE).ByteSize()
    assert not waiting.done()

    release.set()
    wait(held)
    assert waiting.result().ByteSize()
