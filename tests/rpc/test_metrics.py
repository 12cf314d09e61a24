"""The metrics of a service, compared with the calls that were made."""

import grpc
import pytest

from tests.patience import until
from tests.ports import reserve_address
from tests.rpc.conftest import StartWorld
from tests.rpc.world import World
from tests.scrape import Scrape, scrape

SERVICE = "identityapi.v1.IdentityService"


class Measured:
    """A service, and its metrics."""

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
