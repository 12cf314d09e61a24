"""A service on a Redis server that tests stop. The module asserts nothing but the status UNAVAILABLE."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from identity_service.storage.redis import RedisStore
from tests.redis_server import RedisServer
from tests.rpc.conftest import MAX_STALENESS, running, settings_for_tests
from tests.rpc.world import World, failure


def reason_of(call: Callable[[], object]) -> str:
    """Return the reason with which a call fails as UNAVAILABLE, or "" if it succeeds."""
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
    """Run a service on this Redis server until the block ends.

    The service is stale if the server is away and its clock was aged by more than `MAX_STALENESS`.
    """
    settings = settings_for_tests(**changes)
    with running(settings, lambda clock: RedisStore.connect(server.url, clock=clock, timeout=2.0)) as world:
        yield world


def lose(server: RedisServer, world: World, fault: str = "kill") -> None:
    """Stop or pause the store for so long that the process is stale and must not answer any more."""
    getattr(server, fault)()
    world.clock.age(MAX_STALENESS.total_seconds() + 1)
