"""The traces that a collector receives: from the client's span to the spans of the store and the key."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from identity_service.telemetry.logs import StructuredEventLog
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1.trust_service_pb2 import WatchRequest
from identityapi.v1.trust_service_pb2_grpc import TrustServiceStub
from tests.leaks import secrets_in
from tests.otlp import Collector, Received, collecting
from tests.patience import until
from tests.rpc.conftest import StartWorld
from tests.rpc.gateway import Gateway
from tests.rpc.world import API, World, password

SERVICE = "identityapi.v1.IdentityService"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def world(start_world: StartWorld, collector: Collector) -> World:
    return start_world(traces_endpoint=collector.endpoint)


def parent(*, flags: str = "01", trace: str = TRACE) -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{trace}-{SPAN}-{flags}"), ("tracestate", "vendor=1"))


def code_of(span: Received) -> Any:
    return span.attributes["rpc.response.status_code"]


# The spans of a trace


def test_a_trace_leads_from_the_client_through_the_call_to_store_and_signature(
    world: World, collector: Collector
) -> None:
    credential = world.new_user().credential
    world.stub.Issue(pb.IssueRequest(credential=credential), metadata=parent())

    (call,) = collector.await_named(f"{SERVICE}/Issue")
    assert (call.trace_id, call.parent, call.kind, call.failed) == (TRACE, SPAN, "SERVER", False)
    assert call.state == "vendor=1"
    assert call.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/Issue",
        "rpc.response.status_code": "OK",
    }
    (signature,) = collector.named("sign")
    (store,) = collector.named("sessions.create")
    (check,) = collector.named("password.verify")
    for span in (signature, store, check):
        assert (span.trace_id, span.parent, span.failed) == (TRACE, call.span_id, False)
        assert call.began <= span.began <= span.ended <= call.ended
    assert (signature.kind, signature.attributes) == ("INTERNAL", {"identity.key.algorithm": "ES256"})
    assert store.kind == "CLIENT"
    assert store.attributes == {"db.system.name": "sqlite", "db.operation.name": "sessions.create"}
    assert len({span.span_id for span in collector.spans}) == len(collector.spans)


def test_every_verify_has_one_span_whether_it_was_cached_or_not(world: World, collector: Collector) -> None:
    token = world.issue(world.new_client()).access_token
    for _ in range(3):
        world.verify(token)

    spans = collector.await_named(f"{SERVICE}/Verify", 3)
    world.service.stop()
    assert len(collector.named(f"{SERVICE}/Verify")) == 3
    assert {(code_of(span), span.failed, span.parent) for span in spans} == {("OK", False, "")}
    assert len({span.trace_id for span in spans}) == 3


def test_a_decision_of_ext_authz_is_a_span_of_the_gateways_trace(world: World, collector: Collector) -> None:
    token = world.issue(world.new_client()).access_token
    assert Gateway(world, parent()).decide(token).status == 200

    (span,) = collector.await_named("envoy.service.auth.v3.Authorization/Check")
    assert (span.trace_id, span.parent, code_of(span)) == (TRACE, SPAN, "OK")


def test_a_stream_is_a_span_until_it_ends(world: World, collector: Collector) -> None:
    stream = TrustServiceStub(world.channel).Watch(WatchRequest(), metadata=parent())
    next(stream)
    assert collector.named("identityapi.v1.TrustService/Watch") == []
    stream.cancel()

    (span,) = collector.await_named("identityapi.v1.TrustService/Watch")
    assert (span.trace_id, span.parent, code_of(span), span.failed) == (TRACE, SPAN, "CANCELLED", False)


def test_a_refused_call_is_no_failure_of_the_service(world: World, collector: Collector) -> None:
    world.new_user()
    with pytest.raises(grpc.RpcError):
        world.stub.Issue(pb.IssueRequest(credential=password("ana", "hunter2")))
    with pytest.raises(grpc.RpcError):
        world.verify("x", audiences=[])

    (issue,) = collector.await_named(f"{SERVICE}/Issue")
    (verify,) = collector.await_named(f"{SERVICE}/Verify")
    assert (code_of(issue), issue.failed) == ("UNAUTHENTICATED", False)
    assert (code_of(verify), verify.failed) == ("INVALID_ARGUMENT", False)


@pytest.mark.in_process
def test_a_bug_is_a_failure_without_the_text_of_the_exception(
    world: World, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*_: Any) -> Any:
        raise KeyError("a text of the request")

    monkeypatch.setattr("identity_service.grpc_api.issue.to_issue", faulty)
    with pytest.raises(grpc.RpcError):
        world.stub.Issue(pb.IssueRequest())

    (span,) = collector.await_named(f"{SERVICE}/Issue")
    assert (code_of(span), span.failed, span.attributes["error.type"]) == ("INTERNAL", True, "INTERNAL")
    assert b"a text of the request" not in collector.bytes


def test_probes_are_not_traced(world: World, collector: Collector) -> None:
    stub = health_pb2_grpc.HealthStub(world.channel)
    stub.Check(health_pb2.HealthCheckRequest(), metadata=parent())
    world.issue(world.new_client())

    collector.await_named(f"{SERVICE}/Issue")
    assert not [span for span in collector.spans if "Health" in span.name]


# The decision


def test_a_call_of_a_client_that_does_not_record_is_not_recorded(world: World, collector: Collector) -> None:
    client = world.new_client()
    world.stub.Issue(pb.IssueRequest(credential=client.credential), metadata=parent(flags="00"))
    world.service.stop()

    assert collector.spans == []


@pytest.mark.parametrize("value", ["nonsense", f"00-{TRACE}-{SPAN}-1", f"00-{'0' * 32}-{SPAN}-01"])
def test_a_call_with_a_malformed_parent_begins_a_trace(
    world: World, collector: Collector, value: str
) -> None:
    world.stub.Issue(
        pb.IssueRequest(credential=world.new_client().credential), metadata=(("traceparent", value),)
    )

    (span,) = collector.await_named(f"{SERVICE}/Issue")
    assert span.parent == ""
    assert span.trace_id != TRACE


def test_with_a_ratio_of_0_only_calls_of_recorded_traces_are_recorded(
    start_world: StartWorld, collector: Collector
) -> None:
    world = start_world(traces_endpoint=collector.endpoint, traces_ratio=0)
    token = world.issue(world.new_client()).access_token
    world.verify(token)
    request = pb.VerifyRequest(token=token, audiences=[API])
    world.stub.Verify(request, metadata=parent())
    world.service.stop()

    assert {(span.name, span.trace_id) for span in collector.spans} == {(f"{SERVICE}/Verify", TRACE)}


def test_a_client_that_asks_for_every_call_gets_no_more_than_the_bound(
    start_world: StartWorld, collector: Collector
) -> None:
    world = start_world(traces_endpoint=collector.endpoint, traces_per_second=1)
    token = world.issue(world.new_client()).access_token
    request = pb.VerifyRequest(token=token, audiences=[API])
    # The clock of the service stands still, so that its second does not end.
    for _ in range(20):
        world.stub.Verify(request, metadata=parent())
    world.service.stop()

    assert [span.parent for span in collector.named(f"{SERVICE}/Verify")] == [SPAN]
    assert [span.parent for span in collector.named(f"{SERVICE}/Issue")] == [""]


# What a trace must not hold or do


def test_no_credential_and_no_name_of_a_person_is_exported(world: World, collector: Collector) -> None:
    client, user = world.new_client("reports"), world.new_user("anastasia")
    tokens = [world.issue(client), world.issue(user)]
    tokens.append(world.refresh(tokens[1].refresh_token))
    with pytest.raises(grpc.RpcError):
        world.stub.Issue(pb.IssueRequest(credential=password("anastasia", "hunter2")))
    with suppress(grpc.RpcError):
        world.refresh(tokens[1].refresh_token + "x")
    for each in tokens:
        world.verify(each.access_token)
        Gateway(world).decide(each.access_token)
        world.revoke(token=each.access_token)
    collector.await_named(f"{SERVICE}/Revoke", len(tokens))
    world.service.stop()

    exported = collector.bytes
    assert secrets_in(exported.decode("latin-1")) == []
    secrets = ["anastasia", "hunter2", user.id]
    secrets += [text for each in tokens for text in (each.access_token, each.refresh_token, each.token_id)]
    secrets += [part for each in tokens for part in each.access_token.split(".")]
    assert not [secret for secret in secrets if secret and secret.encode() in exported]


def test_calls_are_answered_while_no_collector_is_there(start_world: StartWorld) -> None:
    with collecting() as gone:
        endpoint = gone.endpoint
    world = start_world(traces_endpoint=endpoint)

    token = world.issue(world.new_client()).access_token
    assert world.reason(token) == ""
    assert world.service.stop()


def test_calls_are_answered_while_the_collector_does_not_answer(world: World, collector: Collector) -> None:
    collector.hold = threading.Event()
    token = world.issue(world.new_client()).access_token
    until(lambda: collector.spans != [])

    assert world.reason(token) == ""
    assert world.service.stop()


@pytest.mark.in_process
def test_a_collector_that_is_away_is_reported_once(
    start_world: StartWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reported: list[dict[str, object]] = []

    def record(_: StructuredEventLog, event: str, **fields: object) -> None:
        if event == "traces_not_exported":
            reported.append(fields)

    monkeypatch.setattr(StructuredEventLog, "record", record)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    with collecting() as gone:
        endpoint = gone.endpoint
    world = start_world(traces_endpoint=endpoint)

    world.issue(world.new_client())
    until(lambda: reported != [])
    world.issue(world.new_client("another"))
    world.service.stop()
    assert reported == [{"endpoint": endpoint, "count": 1}]
    assert not [each for each in caplog.records if each.name.startswith("opentelemetry")]


def test_a_service_without_the_setting_exports_nothing(
    start_world: StartWorld, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    world = start_world()
    world.stub.Issue(pb.IssueRequest(credential=world.new_client().credential), metadata=parent())
    world.service.stop()

    assert collector.spans == []


def test_the_last_spans_are_exported_when_the_service_stops(world: World, collector: Collector) -> None:
    world.issue(world.new_client())
    world.service.stop()

    assert len(collector.named(f"{SERVICE}/Issue")) == 1
