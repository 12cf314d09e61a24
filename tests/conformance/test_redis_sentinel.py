"""Redis Sentinel with real processes: the store finds the primary, and follows a failover to the new one."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from identity_service.domain.errors import ConfigurationError, StoreUnavailableError
from identity_service.domain.ids import TokenId, new_epoch
from identity_service.storage.redis import RedisStore, keyspace
from identity_service.storage.redis.client.server_checks import Demands
from tests.redis_topology import SentinelGroup, paused, running, say, until

DEMANDS = Demands(durability="replicas:1")


@pytest.fixture
def group(tmp_path: Path) -> Iterator[SentinelGroup]:
    with running(SentinelGroup(tmp_path)) as group:
        yield group


@pytest.fixture
def store(group: SentinelGroup) -> Iterator[RedisStore]:
    store = RedisStore.connect(group.url, timeout=2.0, demands=DEMANDS)
    store.initialise(new_epoch())
    yield store
    store.close()


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def denied(store: RedisStore, token_id: str) -> bool:
    try:
        store.facts.deny_token(TokenId(token_id), soon())
    except StoreUnavailableError:
        return False
    return True


def test_the_primary_is_found_and_another_one_followed_after_it_has_died(
    group: SentinelGroup, store: RedisStore
) -> None:
    store.log.heartbeat("before", timedelta(days=1))
    group.primary.kill()

    until(lambda: denied(store, "after"))

    assert say(group.elected, f"EXISTS {keyspace.denial(TokenId('after'))}") == ":1\r\n"
    assert say(group.elected, f"EXISTS {keyspace.heartbeat('before')}") == ":1\r\n"


def test_a_primary_that_was_only_silent_gets_no_more_writes_when_it_is_back(
    group: SentinelGroup, store: RedisStore
) -> None:
    """The old primary still has open connections in the pool, and for a while it acts as the primary."""
    store.log.heartbeat("before", timedelta(days=1))
    with paused(group.primary):
        until(lambda: denied(store, "meanwhile"))

    end = time.monotonic() + 1
    count = 0
    while time.monotonic() < end or count <= 10:
        count += denied(store, f"t{count}")

    new = group.elected
    assert new != group.primary.port
    assert say(new, f"EXISTS {keyspace.denial(TokenId(f't{count - 1}'))}") == ":1\r\n"
    assert say(new, f"EXISTS {keyspace.denial(TokenId('t0'))}") == ":1\r\n"


def test_one_silent_sentinel_delays_no_connection(group: SentinelGroup) -> None:
    timeout = 30.0
    with paused(group.sentinels[0]):
        begun = time.monotonic()
        RedisStore.connect(group.url, timeout=timeout).close()
        assert time.monotonic() - begun < timeout


def test_primaries_that_would_go_on_alone_are_refused(group: SentinelGroup) -> None:
    group.primary.configure("min-replicas-to-write", "0")

    with pytest.raises(StoreUnavailableError, match="cut off"):
        RedisStore.connect(group.url, demands=DEMANDS)

    store = RedisStore.connect(group.url)
    (finding,) = store.check(DEMANDS)
    store.close()
    assert finding.severity == "refuse"
    assert "CONFIG SET min-replicas-to-write 1" in finding.fix


@pytest.mark.parametrize("url", ["redis+sentinel://127.0.0.1:1", "redis+sentinel:///identity"])
def test_a_url_without_service_or_hosts_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis\\+sentinel"):
        RedisStore.connect(url)
