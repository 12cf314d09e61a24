"""The HTTP probes and gRPC health report the same in every state of a process."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.http.conftest import ANY_PORT
from tests.http.site import Site, status_of
from tests.patience import until
from tests.ports import reserve_address
from tests.redis_server import RedisServer
from tests.rpc.conftest import ENVOY, GRPCIO, running_in_envoy, settings_for_tests
from tests.rpc.engines import EnvoyHost
from tests.rpc.envoy_inside import StoreAddress
from tests.rpc.outages import lose, on
from tests.rpc.slow_log import starting

SERVES = (200, 200, "SERVING")
SERVES_NOT = (200, 503, "NOT_SERVING")
DRAINED = (200, 503, "UNAVAILABLE")
REFUSES = (None, None, "UNAVAILABLE")
HTTP = {"http_listen": ANY_PORT, "issuer": "https://id.example"}


def probed(http: str, target: str) -> tuple[int | None, int | None, str]:
    """Return the statuses at /livez and /readyz and the gRPC health status; None = no HTTP connection."""
    with grpc.insecure_channel(target) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest())
        except grpc.RpcError as error:
            health = str(error.code().name)
        else:
            (status,) = {each.status for each in answer.statuses.values()}
            health = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    return status_of(http, "/livez"), status_of(http, "/readyz"), health


def state_of(site: Site) -> tuple[int | None, int | None, str]:
    return probed(site.target, site.world.target)


@pytest.fixture(params=(GRPCIO, ENVOY))
def on_redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Site, RedisServer]]:
    """A service on a Redis server that the test can stop."""
    server = RedisServer(tmp_path)
    server.start()
    if request.param == ENVOY:
        host: EnvoyHost = request.getfixturevalue("envoy")
        settings = settings_for_tests(engine=ENVOY, **HTTP)
        store = StoreAddress(kind="redis", place=server.url)
        with running_in_envoy(host, settings, store, tmp_path) as world:
            yield Site(world, host.http_listen), server
    else:
        with on(server, **HTTP) as world:
            yield Site(world, f"127.0.0.1:{world.service.http_port}"), server
    server.stop()


def test_a_process_that_starts_is_alive_and_not_ready(tmp_path: Path) -> None:
    http, target = reserve_address(), reserve_address()
    settings = settings_for_tests(
        **(HTTP | {"http_listen": http, "listen": target, "store": f"sqlite:///{tmp_path}/identity.db"})
    )
    with starting(settings) as go_on:
        assert probed(http, target) == SERVES_NOT

        go_on()
        assert probed(http, target) == SERVES


def test_a_process_is_not_ready_while_its_store_is_away(on_redis: tuple[Site, RedisServer]) -> None:
    site, server = on_redis
    assert state_of(site) == SERVES

    lose(server, site.world)
    until(lambda: state_of(site) == SERVES_NOT)

    server.start()
    until(lambda: state_of(site) == SERVES)


def test_a_process_whose_store_has_lost_its_signing_keys_is_not_ready(
    on_redis: tuple[Site, RedisServer],
) -> None:
    site, server = on_redis

    server.flush()

    until(lambda: state_of(site) == SERVES_NOT)


def test_a_process_that_stops_is_not_ready(site: Site) -> None:
    assert state_of(site) == SERVES

    site.world.service._apis.drain(timedelta(0))

    # On grpcio the ports are closed; in Envoy, which keeps them, HTTP answers until the process ends.
    until(lambda: state_of(site) == (REFUSES if site.world.settings.engine == GRPCIO else DRAINED))
