"""A service on a Redis server that the test stops. The module asserts nothing about the service."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from identity_service.storage.redis import RedisStore
from tests.redis_server import RedisServer
from tests.rpc.conftest import MAX_STALENESS, running, settings_for_tests
from tests.rpc.world import World, failure


def reason_of(call: Callable[[], object]) -> str:
    """Return the reason in the error of a call that is UNAVAILABLE, or "" if the call succeeds."""
    try:
        call()
    except grpc.RpcError as error:
        found = failure(error)
        assert found.code is grpc.StatusCode.UNAVAILABLE
        assert found.retry_after is not None
        return found.reason
    return ""


@contextmanager
def on(server: RedisServer, **changes: object) -> Iterator[World]:
    """Run a service that is stale after the test has aged its clock, unless it can reach its store again."""
    settings = settings_for_tests(**changes)
    with running(settings, lambda clock: RedisStore.connect(server.url, clock=clock, timeout=2.0)) as world:
        yield world


def lose(server: RedisServer, world: World, fault: str = "kill") -> None:
    """Let the store be unavailable for so long that a process must stop answering."""
    getattr(server, fault)()
    world.clock.age(MAX_STALENESS.total_seconds() + 1)
