"""A Redis server is reconfigured while the store uses it: the next writes detect and report the change."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from identity_service.domain.errors import StoreUnavailableError, UnsafeStoreError
from identity_service.domain.ids import TokenId, new_epoch
from identity_service.settings import Settings
from identity_service.storage.redis import RedisStore
from identity_service.storage.redis.client import node
from identity_service.storage.redis.client.server_checks import Demands
from tests.conformance import samples
from tests.fakes.event_logs import RecordingEventLog
from tests.redis_server import binary, packaged_server
from tests.redis_topology import SentinelGroup, TunedServer, running, say, until

RETENTION = timedelta(days=1)


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each durable write check the server's configuration, so that no test waits for the next check."""
    monkeypatch.setattr(node, "_LOOK_INTERVAL", 0.0)


def test_each_heartbeat_by_default_looks_at_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    assert node._LOOK_INTERVAL < Settings().heartbeat_interval.total_seconds() < 1


@pytest.fixture(params=["the one on PATH", "the packaged one"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TunedServer]:
    program = binary() if request.param == "the one on PATH" else packaged_server()
    server = TunedServer(tmp_path, binary=program, repl_diskless_load="disabled")
    server.start()
    yield server
    server.stop()


def opened(server: TunedServer, event_log: RecordingEventLog, **demands: Any) -> RedisStore:
    demanded = Demands(**{"durability": "local"} | demands)
    store = RedisStore.connect(server.url, timeout=1.0, demands=demanded, event_log=event_log)
    store.initialise(new_epoch())
    store.log.heartbeat("control", RETENTION)
    return store


def fails(call: Callable[[], object]) -> bool:
    try:
        call()
    except StoreUnavailableError:
        return True
    return False


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("appendonly", "no", "yes"),
        ("appendfsync", "no", "always"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("maxmemory-policy", "volatile-ttl", "noeviction"),
    ],
)
def test_a_setting_that_becomes_unsafe_at_run_time_is_named_until_it_is_corrected(
    server: TunedServer, event_log: RecordingEventLog, name: str, wrong: str, right: str
) -> None:
    with closing(opened(server, event_log)) as store:
        server.configure(name, wrong)

        assert fails(lambda: store.log.heartbeat("p", RETENTION))
        for call in (*samples.MUTATIONS.values(), *samples.READS.values()):
            with pytest.raises(UnsafeStoreError, match=f"CONFIG SET {name} {right}"):
                call(store)

        server.configure(name, right)
        until(lambda: not fails(lambda: store.log.heartbeat("p", RETENTION)))
        store.facts.deny_token(TokenId("after"), samples.LATER)
    assert event_log.names == ["store_refused", "store_mended"]
    assert f"CONFIG SET {name} {right}" in str(event_log.events[0][1]["fix"])


def test_with_waitaof_no_write_is_acknowledged_after_the_file_was_turned_off(
    tmp_path: Path, event_log: RecordingEventLog
) -> None:
    """WAITAOF makes even the first write fail, however recently the store checked the configuration."""
    server = TunedServer(tmp_path, binary=packaged_server())
    server.start()
    try:
        with closing(opened(server, event_log)) as store:
            for _ in range(10):
                until(lambda: not fails(lambda: store.log.heartbeat("just looked", RETENTION)))
                server.configure("appendonly", "no")
                assert fails(lambda: store.facts.deny_token(TokenId("t1"), samples.LATER))
                server.configure("appendonly", "yes")
    finally:
        server.stop()


def test_a_primary_that_becomes_a_replica_gets_no_more_calls_until_it_is_one_again(
    server: TunedServer, event_log: RecordingEventLog
) -> None:
    with closing(opened(server, event_log)) as store:
        say(server.port, "REPLICAOF 127.0.0.1 1")

        until(lambda: fails(lambda: store.log.heartbeat("p", RETENTION)))
        with pytest.raises(UnsafeStoreError, match="is a replica"):
            until(lambda: bool(store.log.head()) and False)

        say(server.port, "REPLICAOF NO ONE")
        until(lambda: not fails(lambda: store.log.heartbeat("p", RETENTION)))
    assert event_log.names == ["store_refused", "store_mended"]


def test_a_file_that_was_turned_on_again_counts_once_it_holds_everything(
    tmp_path: Path, event_log: RecordingEventLog
) -> None:
    """A new append-only file lacks the older data until its first rewrite, so a crash would lose them.

    Redis before version 7.2 has no WAITAOF, which would reveal that.
    """
    server = TunedServer(tmp_path, binary=binary(), rdb_key_save_delay="3000")
    server.start()
    try:
        with closing(opened(server, event_log)) as store:
            for number in range(400):
                say(server.port, f"SET filler{number} x")
            server.configure("appendonly", "no")
            until(lambda: fails(lambda: store.log.heartbeat("p", RETENTION)))
            server.configure("appendonly", "yes")
            until(lambda: "aof_rewrite_in_progress:1" in say(server.port, "INFO persistence"))

            until(lambda: not fails(lambda: store.log.heartbeat("p", RETENTION)))

            assert "aof_rewrite_in_progress:0" in say(server.port, "INFO persistence")
    finally:
        server.stop()


def test_a_primary_that_no_longer_needs_its_replicas_is_found_if_a_failover_is_possible(
    tmp_path: Path, event_log: RecordingEventLog
) -> None:
    with running(SentinelGroup(tmp_path)) as group:
        demands = Demands(durability="replicas:1")
        with closing(
            RedisStore.connect(group.url, timeout=1.0, demands=demands, event_log=event_log)
        ) as store:
            store.initialise(new_epoch())
            store.log.heartbeat("control", RETENTION)
            group.primary.configure("min-replicas-to-write", "0")

            with pytest.raises(UnsafeStoreError, match="min-replicas-to-write 1"):
                until(lambda: bool(store.log.heartbeat("p", RETENTION)) and False)

            group.primary.configure("min-replicas-to-write", "1")
            until(lambda: not fails(lambda: store.log.heartbeat("p", RETENTION)))
    assert event_log.names == ["store_refused", "store_mended"]
