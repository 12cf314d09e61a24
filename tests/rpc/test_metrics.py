"""The metrics of a service, compared with the calls that the test made."""

import re
from pathlib import Path
from typing import Final

import grpc
import pytest

from identity_service.domain.keys import KeyState
from identity_service.domain.tokens import RejectionReason
from identityapi.v1 import identity_service_pb2 as pb
from tests.patience import until
from tests.ports import reserve_address
from tests.rpc.conftest import StartWorld
from tests.rpc.world import API, World
from tests.scrape import Scrape, scrape

SERVICE = "identityapi.v1.IdentityService"
REASONS = tuple(RejectionReason)
ELSEWHERE: Final = {
    *("http_requests_total", "http_request_duration_seconds", "identity_tls_expire_time"),
    *("identity_workers", "identity_workers_ended_total", "identity_worker_report_age_seconds"),
}
"""Metrics that the service under test does not have, since it serves neither HTTP nor TLS, and has no worker
processes."""


@pytest.fixture
def page() -> str:
    """The text of docs/metrics.md."""
    return (Path(__file__).parents[2] / "docs/metrics.md").read_text()


class Measured:
    """A service with an HTTP port for its metrics."""

    def __init__(self, start_world: StartWorld) -> None:
        self._address = reserve_address()
        self.world: World = start_world(metrics_listen=self._address)
        self.client = self.world.new_client()

    def scrape(self) -> Scrape:
        return scrape(self._address)

    def handled(self, method: str, code: str = "OK") -> float:
        labels = {"grpc_service": SERVICE, "grpc_method": method, "grpc_type": "unary", "grpc_code": code}
        return self.scrape().value("grpc_server_handled_total", **labels)


@pytest.fixture
def measured(start_world: StartWorld) -> Measured:
    return Measured(start_world)


def test_calls_are_counted_by_method_and_code(measured: Measured) -> None:
    world = measured.world
    token = world.issue(measured.client).access_token
    for _ in range(5):
        world.verify(token)  # the first is verified, the others are cached
    with pytest.raises(grpc.RpcError):
        world.refresh("no refresh token")

    until(lambda: measured.handled("Verify") == 5)
    until(lambda: measured.handled("Refresh", "Unauthenticated") == 1)
    assert measured.handled("Issue") == 1
    assert (measured.handled("Revoke"), measured.handled("Refresh")) == (0, 0)


def test_the_histogram_has_every_call_of_a_method_without_its_code(measured: Measured) -> None:
    world = measured.world
    token = world.issue(measured.client).access_token
    world.verify(token)
    with pytest.raises(grpc.RpcError):
        world.verify(token, audiences=[])

    until(lambda: measured.handled("Verify") == measured.handled("Verify", "InvalidArgument") == 1)
    found, labels = measured.scrape(), {"grpc_service": SERVICE, "grpc_method": "Verify"}
    assert found.value("grpc_server_handling_seconds_count", **labels) == 2
    assert found.value("grpc_server_handling_seconds_bucket", le="+Inf", **labels) == 2
    assert found.value("grpc_server_handling_seconds_sum", **labels) > 0
    assert found.labels["grpc_server_handling_seconds_bucket"] == {
        "grpc_service",
        "grpc_method",
        "grpc_type",
        "le",
    }


def test_tokens_are_counted_as_they_are_issued_verified_rejected_and_revoked(measured: Measured) -> None:
    world = measured.world
    world.new_user()
    issued = world.issue(measured.client)
    signed_in = world.issue(world.user())
    world.refresh(signed_in.refresh_token)
    world.verify(issued.access_token)
    world.verify(issued.access_token)
    world.stub.VerifyBatch(
        pb.VerifyBatchRequest(
            requests=[
                pb.VerifyRequest(token=text, audiences=audiences)
                for text, audiences in (
                    (issued.access_token, [API]),  # cached
                    (issued.access_token, ["other"]),
                    ("no token", [API]),
                )
            ]
        )
    )
    world.revoke(issued.access_token, token=issued.access_token)
    assert world.reason(issued.access_token) == "REVOKED"
    world.revoke(world.admin_token(), session_id=signed_in.session_id)
    world.revoke(world.admin_token(), subject="somebody-else")
    with pytest.raises(grpc.RpcError):
        world.refresh("no refresh token")

    found = measured.scrape()
    assert [
        found.value("identity_tokens_issued_total", kind=k) for k in ("sign_in", "refresh", "exchange")
    ] == [
        1,
        1,
        0,
    ]
    assert found.value("identity_tokens_issued_total", kind="client") == 3  # two of the administrator
    assert found.value("identity_tokens_verified_total") == 3
    rejected = {reason: found.value("identity_tokens_rejected_total", reason=reason) for reason in REASONS}
    assert {reason: n for reason, n in rejected.items() if n} == {
        "WRONG_AUDIENCE": 1,
        "MALFORMED": 1,
        "REVOKED": 1,
    }
    kinds = ("token", "session", "principal", "reuse")
    assert [found.value("identity_revocations_total", kind=kind) for kind in kinds] == [1, 1, 1, 0]
    assert found.value("identity_refusals_total", call="refresh", reason="REFRESH_TOKEN_INVALID") == 1
    assert found.value("identity_cache_hits_total", cache="responses") == 2
    assert found.value("identity_cache_misses_total", cache="responses") == 4


def test_a_batch_that_is_known_as_a_whole_counts_each_token(measured: Measured) -> None:
    world = measured.world
    token = world.issue(measured.client).access_token
    world.verify(token)
    request = pb.VerifyRequest(token=token, audiences=[API])
    world.stub.VerifyBatch(pb.VerifyBatchRequest(requests=[request] * 7))
    assert measured.scrape().value("identity_tokens_verified_total") == 8


def test_the_operations_of_the_store_are_counted_by_outcome(measured: Measured) -> None:
    world = measured.world
    world.issue(world.new_user())

    found = measured.scrape()
    assert found.value("identity_store_operations_total", operation="sessions.create", outcome="ok") == 1
    assert found.value("identity_store_operation_seconds_count", operation="sessions.create") == 1
    assert found.value("identity_store_operations_total", operation="log.heartbeat", outcome="ok") > 0
    assert not found.has("identity_store_operations_total", operation="log.wait")


def test_the_metrics_show_the_keys_and_their_ages(measured: Measured) -> None:
    before = measured.scrape()
    measured.world.clock.advance(hours=2)

    until(lambda: measured.scrape().value("identity_key_age_seconds", purpose="sign") >= 2 * 3600)
    assert before.value("identity_key_age_seconds", purpose="sign") < 3600
    states = {state: before.value("identity_keys", purpose="sign", state=state) for state in KeyState}
    assert states == {"pending": 1, "signing": 1, "verifying": 0, "revoked": 0}


def test_passwords_that_find_no_place_are_counted(measured: Measured) -> None:
    world = measured.world
    user, hasher = world.new_user(), world.service._hasher
    places = world.settings.password_processes + world.settings.password_queue
    for _ in range(places):
        hasher._enter()
    with pytest.raises(grpc.RpcError):
        world.issue(user)
    found = measured.scrape()
    for _ in range(places):
        hasher._leave()

    assert found.value("identity_passwords_open") == places
    assert found.value("identity_passwords_refused_total") == 1
    assert measured.scrape().value("identity_passwords_open") == 0


def test_the_process_and_its_interpreter_are_measured(measured: Measured) -> None:
    found = measured.scrape()
    assert found.value("process_cpu_seconds_total") > 0
    assert found.value("python_info") == 1
    assert found.has("python_gc_collections_total", generation="2")


def test_every_metric_is_documented_with_its_type_and_labels(measured: Measured, page: str) -> None:
    measured.world.issue(measured.world.new_user())
    with pytest.raises(grpc.RpcError):
        measured.world.refresh("no refresh token")

    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    written = {
        name.strip(" `"): (kind.strip(), frozenset(re.findall(r"`(\w+)`", labels)))
        for _, name, kind, labels, *_ in rows
    }
    found = measured.scrape()
    for family in found.families:
        if not family.name.startswith(("process_", "python_")):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = frozenset().union(*(sample.labels for sample in family.samples)) - {"le"}
            assert written.pop(name, None) == (family.type, labels), name
    assert written.keys() <= ELSEWHERE
