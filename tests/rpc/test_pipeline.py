"""What every call goes through: policy, request ids, opaque bugs, callers, health, reflection."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from identity_service.domain.ids import PrincipalId
from identity_service.grpc_api.callers import Caller
from identity_service.grpc_api.calls import recalled_by
from identity_service.grpc_api.pipeline import Behaviour, Pipeline
from identity_service.grpc_api.policy import POLICY
from identity_service.services.verify import StoreReadRequiredError
from identityapi import v1
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from tests.patience import PATIENCE
from tests.rpc.conftest import StartWorld
from tests.rpc.world import API, World, bearer, failure

SERVICE = "identityapi.v1.IdentityService"
SERVICES = {SERVICE, "identityapi.v1.TrustService", "identityapi.v1.AdminService"}


def test_every_method_of_the_protos_has_a_policy() -> None:
    """Every proto that is compiled, also one that is added later."""
    modules = [import_module(f"identityapi.v1.{found.name}") for found in iter_modules(v1.__path__)]
    methods = {
        f"/{service.full_name}/{method.name}"
        for module in modules
        if module.__name__.endswith("_pb2")
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }

    assert {method.split("/")[1] for method in methods} == SERVICES
    assert methods == {method for method in POLICY if method.startswith("/identityapi.")}


class _NoGate:
    def applies(self, rule: object, request: object) -> bool:
        return False


@pytest.fixture
def bare() -> Iterator[tuple[grpc.Server, Pipeline, ThreadPoolExecutor]]:
    """A server with a pipeline whose policy table knows Verify alone."""
    work = ThreadPoolExecutor(1)
    server = grpc.server(ThreadPoolExecutor(2))
    table = {f"/{SERVICE}/Verify": POLICY[f"/{SERVICE}/Verify"]}
    yield server, Pipeline(server, _NoGate(), work, table), work  # type: ignore[arg-type]
    server.stop(None).wait()
    work.shutdown()


def test_who_looks_on_sees_every_call_and_its_end_and_changes_nothing() -> None:
    seen: list[tuple[str, str]] = []

    def observe(method: str, behaviour: Behaviour) -> Behaviour:
        def watched(data: bytes, context: grpc.ServicerContext) -> Any:
            try:
                answer = behaviour(data, context)
            except Exception:
                seen.append((method, "failed"))
                raise
            seen.append((method, "answered"))
            return answer

        return watched

    class Servicer:
        def Verify(self, request: Any, context: Any) -> Any:  # noqa: N802
            if not request.token:
                raise KeyError("token")
            return pb.VerifyResponse(revision="1.1")

        Issue = VerifyBatch = Refresh = Revoke = Verify

    table = {f"/{SERVICE}/Verify": POLICY[f"/{SERVICE}/Verify"]}
    with ThreadPoolExecutor(1) as work:
        server = grpc.server(work)
        registrar: Any = Pipeline(server, _NoGate(), work, table, observe)  # type: ignore[arg-type]
        servicer: Any = Servicer()
        rpc.add_IdentityServiceServicer_to_server(servicer, registrar)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = rpc.IdentityServiceStub(channel)
            assert stub.Verify(pb.VerifyRequest(token="x")).revision == "1.1"
            with pytest.raises(grpc.RpcError) as bug:
                stub.Verify(pb.VerifyRequest())
        server.stop(None).wait()

    assert bug.value.code() is grpc.StatusCode.INTERNAL
    assert seen == [(f"/{SERVICE}/Verify", "answered"), (f"/{SERVICE}/Verify", "failed")]


def test_an_event_loop_does_not_wait_for_what_must_be_read_about_the_caller() -> None:
    """The caller's token may name a generation that was not read yet; a thread reads, and answers then."""
    waited: list[bool] = []

    class Gate(_NoGate):
        def applies(self, rule: object, request: object) -> bool:
            return True

        def admit(self, method: str, rule: object, context: object, *, may_wait: bool = True) -> Caller:
            waited.append(may_wait)
            if not may_wait:
                raise StoreReadRequiredError
            return Caller(principal=PrincipalId("c"), scopes=frozenset())

    class Servicer:
        def recall_verify(self, data: bytes) -> bytes | None:
            return None

        @recalled_by(recall_verify)
        def Verify(self, request: Any, data: bytes) -> bytes:  # noqa: N802
            return b"answer"

        Issue = VerifyBatch = Refresh = Revoke = Verify

    class Registrar:
        def add_generic_rpc_handlers(self, handlers: Any) -> None:
            """The other way is enough."""

        def add_registered_method_handlers(self, service_name: str, handlers: Any) -> None:
            self.verify = handlers["Verify"].unary_unary

    class Context:
        def is_active(self) -> bool:
            return True

        def time_remaining(self) -> None:
            return None

    with ThreadPoolExecutor(1) as work:
        registrar, servicer = Registrar(), Servicer()
        pipeline: Any = Pipeline(registrar, Gate(), work)  # type: ignore[arg-type]
        rpc.add_IdentityServiceServicer_to_server(servicer, pipeline)  # type: ignore[arg-type]
        assert registrar.verify.instant(b"", Context()) is None
        assert waited == [False]
        assert registrar.verify(b"", Context()) == b"answer"


class _Faulty:
    """A servicer whose every method has a bug."""

    def Verify(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise KeyError("the secret of the request")

    Issue = VerifyBatch = Refresh = Revoke = Verify


def test_a_method_without_a_policy_is_refused_and_a_bug_is_opaque(
    bare: tuple[grpc.Server, Pipeline, ThreadPoolExecutor], capfd: pytest.CaptureFixture[str]
) -> None:
    server, pipeline, _ = bare
    registrar: Any = pipeline
    faulty: Any = _Faulty
    rpc.add_IdentityServiceServicer_to_server(faulty(), registrar)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = rpc.IdentityServiceStub(channel)
        with pytest.raises(grpc.RpcError) as unlisted:
            stub.Issue(pb.IssueRequest())
        with pytest.raises(grpc.RpcError) as bug:
            stub.Verify(pb.VerifyRequest())

    assert failure(unlisted.value).code is grpc.StatusCode.PERMISSION_DENIED
    assert failure(unlisted.value).reason == "METHOD_NOT_ALLOWED"
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


def test_callers_are_asked_for_where_it_is_configured(start_world: StartWorld) -> None:
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
    """One that left while another was sent something once stopped the server for good."""

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
    """All threads that may wait for the store are busy; the caller has gone when one is free again."""
    world = start_world()
    client = world.new_client()
    release = threading.Event()
    work = world.service._server._pools.work
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
    """What answers from memory goes on while all threads for the store are busy, and the other way round."""
    world = start_world()
    client = world.new_client()
    token = world.issue(client).access_token
    threads = getattr(world.service._server._pools, busy)
    release = threading.Event()
    held = [threads.submit(release.wait) for _ in range(threads.count)]
    calls: dict[str, tuple[Any, Message]] = {
        "memory": (world.stub.Verify, pb.VerifyRequest(token=token, any_audience=True)),
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
