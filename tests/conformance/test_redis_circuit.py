"""The circuit breaker of the Redis store: calls fail at once while Redis is away, and work again later.

Unit tests check how soon the circuit breaker closes.
"""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ids import new_epoch
from identity_service.storage.redis import RedisStore
from identity_service.storage.redis.client.server_checks import Demands
from tests.conformance.conftest import STORE_SECONDS
from tests.fakes.event_logs import RecordingEventLog
from tests.redis_topology import TunedServer, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TunedServer]:
    server = TunedServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(server: TunedServer, event_log: RecordingEventLog) -> Iterator[RedisStore]:
    store = RedisStore.connect(
        server.url, timeout=STORE_SECONDS, demands=Demands(durability="local"), event_log=event_log
    )
    store.initialise(new_epoch())
    yield store
    store.close()


def answers(store: RedisStore) -> bool:
    try:
        store.log.head()
    except StoreUnavailableError:
        return False
    return True


def fail(store: RedisStore, seconds: float) -> None:
    """Make calls for `seconds`; all must fail, so that the circuit breaker waits long between trials."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert not answers(store)


def seconds_of_a_failure(store: RedisStore) -> float:
    begun = time.monotonic()
    assert not answers(store)
    return time.monotonic() - begun


@pytest.mark.parametrize("loss", ["killed", "silent"])
def test_calls_fail_at_once_while_redis_is_unreachable(
    server: TunedServer, store: RedisStore, loss: str
) -> None:
    """Apart from rare trials, calls do not wait for an answer of the server."""
    (server.kill if loss == "killed" else server.pause)()
    fail(store, 1.3)

    durations = [seconds_of_a_failure(store) for _ in range(100)]

    assert statistics.median(durations) < STORE_SECONDS / 4
    if loss == "silent":
        server.resume()


@pytest.mark.parametrize("loss", ["killed", "silent"])
def test_calls_work_again_when_redis_is_back(server: TunedServer, store: RedisStore, loss: str) -> None:
    (server.kill if loss == "killed" else server.pause)()
    fail(store, 2.0)

    (server.start if loss == "killed" else server.resume)()

    until(lambda: answers(store))


def test_a_server_that_comes_back_unsafe_gets_no_calls_until_it_is_corrected(
    server: TunedServer, store: RedisStore, event_log: RecordingEventLog
) -> None:
    """The restart loses settings made at run time; the event log reports that once, not at each call."""
    server.kill()
    assert not answers(store)
    server.reconfigure(maxmemory_policy="allkeys-lru", appendfsync="no")
    server.start()

    fail(store, 0.5)
    with pytest.raises(StoreUnavailableError, match=r"not set up safely|away"):
        store.log.head()
    assert event_log.names == ["store_refused"] * 2

    server.configure("maxmemory-policy", "noeviction")
    server.configure("appendfsync", "always")

    until(lambda: answers(store))
    assert event_log.names[-1] == "store_mended"


def test_a_server_that_is_a_replica_by_now_gets_no_calls(server: TunedServer, store: RedisStore) -> None:
    server.kill()
    server.reconfigure(replicaof="127.0.0.1 1")
    server.start()

    with pytest.raises(StoreUnavailableError, match="replica"):
        until(lambda: bool(store.log.head()) and False)


def test_without_insist_an_unsafe_server_is_reported_and_used(
    server: TunedServer, event_log: RecordingEventLog
) -> None:
    server.configure("maxmemory-policy", "allkeys-lru")

    store = RedisStore.connect(
        server.url, demands=Demands(durability="local", insist=False), event_log=event_log
    )
    store.initialise(new_epoch())
    store.close()

    assert event_log.names == ["store_refused"]
