"""Fail closed: the answers of a service that is stale, that is starting, or that is stopping."""

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from identity_service.domain.secret import Secret
from identity_service.storage.redis import RedisStore
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from tests.patience import PATIENCE, until
from tests.ports import reserve_port
from tests.redis_server import RedisServer
from tests.rpc.conftest import MAX_STALENESS, StartWorld, running, settings_for_tests
from tests.rpc.outages import lose, on, reason_of
from tests.rpc.slow_log import starting
from tests.rpc.world import API, World, failure, password

SERVICE = "identityapi.v1.IdentityService"


def health(world: World) -> int:
    stub = health_pb2_grpc.HealthStub(world.channel)
    answer: health_pb2.HealthCheckResponse = stub.Check(health_pb2.HealthCheckRequest(service=SERVICE))
    return int(answer.status)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server of this test alone, which the test kills or pauses."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_without_its_store_it_answers_unavailable_and_recovers_by_itself(
    server: RedisServer, fault: str
) -> None:
    with on(server) as world:
        client, user = world.new_client(), world.new_user()
        token, tokens = world.issue(client).access_token, world.issue(user)
        getattr(server, fault)()
        assert reason_of(lambda: world.verify(token)) == ""  # it is still known

        world.clock.age(MAX_STALENESS.total_seconds() + 1)

        # The process is stale now. A heartbeat that was just in progress may delay that.
        until(lambda: reason_of(lambda: world.verify(token)) == "REPLICA_STALE")
        assert reason_of(lambda: world.issue(client)) == "REPLICA_STALE"
        assert reason_of(lambda: world.refresh(tokens.refresh_token)) == "REPLICA_STALE"
        assert reason_of(lambda: world.revoke(token=token)) == "REPLICA_STALE"
        until(lambda: health(world) == health_pb2.HealthCheckResponse.NOT_SERVING)

        server.resume() if fault == "pause" else server.start()

        until(lambda: reason_of(lambda: world.verify(token)) == "")
        assert world.reason(token) == ""
        until(lambda: health(world) == health_pb2.HealthCheckResponse.SERVING)
        assert world.refresh(tokens.refresh_token).refresh_token
        world.revoke(token=token)
        assert world.reason(token) == "REVOKED"


def test_a_revocation_that_the_store_did_not_take_is_not_acknowledged(server: RedisServer) -> None:
    with on(server) as world:
        token = world.issue(world.new_client()).access_token
        server.kill()

        assert reason_of(lambda: world.revoke(token=token)) in {"STORE_UNAVAILABLE", "REPLICA_STALE"}


def test_a_strong_answer_needs_the_store(server: RedisServer) -> None:
    with on(server) as world:
        token = world.issue(world.new_client()).access_token
        server.kill()

        assert reason_of(lambda: world.verify(token, strong=True)) in {"STORE_UNAVAILABLE", "REPLICA_STALE"}


def test_an_emptied_store_is_not_served_from(server: RedisServer) -> None:
    """FLUSHALL deletes the keys, too.

    The answer must be UNAVAILABLE, not that a token or a caller is invalid.
    """
    with on(server) as world:
        client = world.new_client()
        tokens = world.issue(world.new_user())
        world.revoke(token=tokens.access_token)
        server.flush()

        until(lambda: reason_of(lambda: world.verify(tokens.access_token)) == "NO_SIGNING_KEY")
        for call in (lambda: world.issue(client), lambda: world.refresh(tokens.refresh_token)):
            assert reason_of(call) == "NO_SIGNING_KEY"
        until(lambda: health(world) == health_pb2.HealthCheckResponse.NOT_SERVING)


def test_on_stale_serve_lets_verify_go_on_and_nothing_else(server: RedisServer) -> None:
    with on(server, on_stale="serve") as world:
        client = world.new_client()
        good, bad = world.issue(client).access_token, world.issue(client).access_token
        world.revoke(token=bad)
        lose(server, world)

        until(lambda: reason_of(lambda: world.issue(client)) == "REPLICA_STALE")
        assert (world.reason(good), world.reason(bad)) == ("", "REVOKED")


def test_a_clock_that_differs_from_the_stores_is_unavailable(server: RedisServer) -> None:
    """The store uses its own clock here, and the test moves the clock of the service."""
    with running(settings_for_tests(), lambda _: RedisStore.connect(server.url)) as world:
        token = world.issue(world.new_client()).access_token
        for hours in (1, -2):
            world.clock.advance(hours=hours)
            until(lambda: reason_of(lambda: world.verify(token)) == "CLOCK_SKEWED")
        world.clock.advance(hours=1)
        until(lambda: reason_of(lambda: world.verify(token)) == "")


def test_before_it_has_read_the_log_it_is_not_ready(tmp_path: Path) -> None:
    """The service opens its port at once, for probes, but refuses all other calls until it is ready."""
    port = reserve_port()
    settings = settings_for_tests(listen=f"127.0.0.1:{port}", store=f"sqlite:///{tmp_path}/identity.db")
    with starting(settings) as go_on, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = rpc.IdentityServiceStub(channel)
        request = pb.VerifyRequest(token="x", audiences=[API])
        assert reason_of(lambda: stub.Verify(request)) == "NOT_READY"
        probe = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert probe.status == health_pb2.HealthCheckResponse.NOT_SERVING

        go_on()
        assert stub.Verify(request).rejected.reason == pb.REJECTION_REASON_MALFORMED


def test_too_many_strong_calls_are_refused(start_world: StartWorld) -> None:
    world = start_world(strong_limit=1)
    replica = world.service._replica
    assert replica._waiting.acquire(blocking=False)

    with pytest.raises(grpc.RpcError) as refused:
        world.verify("x", strong=True)

    assert failure(refused.value).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure(refused.value).reason == "SERVER_BUSY"
    assert world.reason("x") == "MALFORMED"
    replica._waiting.release()


@pytest.mark.in_process
def test_stopping_lets_calls_in_progress_end(
    start_world: StartWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = start_world()
    world.new_user()
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: str | None, password: Secret) -> bool:
        begun.set()
        return go_on.wait(PATIENCE)

    monkeypatch.setattr(world.service._hasher, "verify", slow)
    call = world.stub.Issue.future(pb.IssueRequest(credential=password("ana")))
    assert begun.wait(PATIENCE)
    stopped: list[bool] = []
    stopping = threading.Thread(target=lambda: stopped.append(world.service.stop()))
    stopping.start()
    until(lambda: not _accepts(world))

    go_on.set()
    stopping.join(PATIENCE)

    assert call.result().token_set.access_token
    assert stopped == [True]


def _accepts(world: World) -> bool:
    with grpc.insecure_channel(world.target) as channel:
        try:
            rpc.IdentityServiceStub(channel).Verify(pb.VerifyRequest(token="x", audiences=[API]))
        except grpc.RpcError:
            return False
    return True
