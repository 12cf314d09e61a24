"""A service on a Redis server that tests stop. The module asserts nothing about the service."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from identity_service.storage.redis import RedisStore
from tests.redis_server import RedisServer
from tests.rpc.conftest import MAX_STALENESS, running, settings_for_tests
from tests.rpc.world import World, failure


def reason_of(call: Callable[[], object]) -> str:
    """Return the reason why a call fails with UNAVAILABLE, or "" if it does not fail."""
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
    """A service that is stale once its clock is aged, unless it can reach its store again."""
    settings = settings_for_tests(**changes)
    with running(settings, lambda clock: RedisStore.connect(server.url, clock=clock, timeout=2.0)) as world:
        yield world


def lose(server: RedisServer, world: World, fault: str = "kill") -> None:
    """Have the store away for so long that a process must not answer any more."""
    getattr(server, fault)()
    world.clock.age(MAX_STALENESS.total_seconds() + 1)
