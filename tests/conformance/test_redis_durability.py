"""Durability: a write is acknowledged only after real servers have confirmed it on disk or on replicas."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from identity_service.domain.copying import CopiedItem, CopiedUse
from identity_service.domain.errors import NotConfirmedError, NotFoundError, StoreUnavailableError
from identity_service.domain.ids import new_epoch
from identity_service.domain.log import RecordKind
from identity_service.storage.redis import RedisStore, keyspace
from identity_service.storage.redis.client.connection import RedisConnection
from identity_service.storage.redis.client.server_checks import Demands
from tests.conformance import samples
from tests.redis_server import RedisServer, packaged_server
from tests.redis_topology import TunedServer, info, paused, say, stop_all, until

RETENTION = timedelta(days=1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and its replica."""
    directory = tmp_path_factory.mktemp("pair")
    primary = TunedServer(directory / "primary")
    primary.start()
    replica = TunedServer(directory / "replica", replicaof=f"127.0.0.1 {primary.port}")
    replica.start()
    until(lambda: "state=online" in info(primary.port).get("slave0", ""))
    yield primary, replica
    stop_all([replica, primary])


@pytest.fixture
def primary(pair: tuple[RedisServer, RedisServer]) -> RedisServer:
    pair[0].flush()
    say(pair[0].port, "CONFIG RESETSTAT")
    return pair[0]


@pytest.fixture
def replica(primary: RedisServer, pair: tuple[RedisServer, RedisServer]) -> RedisServer:
    """The replica of `primary`, once it has received all earlier writes."""
    until(lambda: say(primary.port, "WAIT 1 100") == ":1\r\n")
    return pair[1]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that syncs its append-only file each second, and has WAITAOF to confirm it."""
    server = TunedServer(tmp_path / "disk", binary=packaged_server(), appendfsync="everysec")
    server.start()
    yield server
    server.stop()


def opened(server: RedisServer, durability: str, *, timeout: float = 5.0) -> RedisStore:
    store = RedisStore.connect(server.url, demands=Demands(durability=durability), timeout=timeout)
    store.initialise(new_epoch())
    return store


def connected(server: RedisServer, durability: str, *, timeout: float = 5.0) -> RedisConnection:
    return RedisConnection(server.url, timeout, demands=Demands(durability=durability))


def test_a_write_is_acknowledged_once_the_replica_has_it(primary: RedisServer, replica: RedisServer) -> None:
    store = opened(primary, "replicas:1")

    appended = store.log.heartbeat("p1", RETENTION)

    assert appended.position == 0
    assert say(replica.port, f"EXISTS {keyspace.heartbeat('p1')}") == ":1\r\n"
    store.close()


def test_a_write_that_the_replica_does_not_confirm_raises_an_error_with_its_answer(
    primary: RedisServer, replica: RedisServer
) -> None:
    opened(primary, "unsynced").close()
    connection = connected(primary, "replicas:1", timeout=2.0)
    keys: list[str] = [keyspace.HEAD, keyspace.heartbeat("p1"), keyspace.LOG]
    keys += [keyspace.HEARTBEATS, keyspace.GENERATIONS]
    words: list[str | int] = ["", 60, "p1", "", "1.0", "0", "0", "0", ""]
    answer = connection.run("heartbeat", keys, words, durable=True)

    with paused(replica), pytest.raises(NotConfirmedError) as error:
        connection.run("heartbeat", keys, words, durable=True)

    assert isinstance(error.value.answer, list)
    assert error.value.answer[0] == answer[0]
    connection.close()


def test_a_write_that_need_not_be_durable_does_not_wait_for_the_replica(
    primary: RedisServer, replica: RedisServer
) -> None:
    store = opened(primary, "replicas:1")
    session = samples.a_session("s1")
    store.sessions.create(session)

    with paused(replica):  # whose confirmation would be missing
        assert store.sessions.replace(session, expected_version=1)
        assert store.sessions.read(session.session_id) is not None
        with pytest.raises(NotConfirmedError):
            store.log.heartbeat("p1", RETENTION)
    store.close()


def test_a_script_that_refuses_is_a_refusal_whether_or_not_the_replica_confirms(
    primary: RedisServer, replica: RedisServer
) -> None:
    opened(primary, "unsynced").close()
    connection = connected(primary, "replicas:1", timeout=2.0)
    epoch = connection.command("HGET", keyspace.HEAD, "epoch")
    keys = [keyspace.HEAD, keyspace.LOG, keyspace.GENERATIONS]
    record = [
        keyspace.record(RecordKind.KEY, "k"),
        keyspace.index(RecordKind.KEY),
        keyspace.names(RecordKind.KEY),
    ]

    with paused(replica), pytest.raises(NotFoundError):
        connection.run("delete_record", [*keys, *record], [epoch, "", "k", "", "{}", "link"], durable=True)
    connection.close()


def test_more_replicas_than_there_are_never_confirm(primary: RedisServer, replica: RedisServer) -> None:
    store = opened(primary, "unsynced")
    store.close()
    store = RedisStore.connect(primary.url, demands=Demands(durability="replicas:2"), timeout=2.0)

    with pytest.raises(NotConfirmedError):
        store.log.heartbeat("p1", RETENTION)
    store.close()


def test_scripts_that_the_server_has_forgotten_are_taught_and_confirmed(
    primary: RedisServer, replica: RedisServer
) -> None:
    store = opened(primary, "replicas:1")
    store.log.heartbeat("p1", RETENTION)
    say(primary.port, "SCRIPT FLUSH")

    store.log.heartbeat("p2", RETENTION)

    assert say(replica.port, f"EXISTS {keyspace.heartbeat('p2')}") == ":1\r\n"
    store.close()


def test_a_server_that_syncs_each_second_acknowledges_when_it_has_synced(disk: RedisServer) -> None:
    """A write that has returned is on disk: a server that is killed at that moment still has it."""
    store = opened(disk, "local", timeout=20)
    waited = 0.0
    for number in range(3):
        begun = time.monotonic()
        store.log.heartbeat(f"p{number}", RETENTION)
        waited = max(waited, time.monotonic() - begun)
    disk.kill()
    disk.start()

    assert say(disk.port, f"EXISTS {keyspace.heartbeat('p2')}") == ":1\r\n"
    assert waited > 0.1  # a sync each second cannot have been faster for all of three in a row
    store.close()


def test_a_server_that_syncs_every_write_is_still_asked_for_confirmation(disk: RedisServer) -> None:
    """Without WAITAOF, the server would acknowledge writes even after its append-only file was turned off."""
    disk.configure("appendfsync", "always")
    store = opened(disk, "local")
    store.log.heartbeat("p1", RETENTION)  # the connection has looked at the server a moment ago

    disk.configure("appendonly", "no")
    with pytest.raises(NotConfirmedError, match="CONFIG SET appendonly yes"):
        store.log.heartbeat("p2", RETENTION)

    disk.configure("appendonly", "yes")
    until(lambda: _heartbeats(store))
    store.close()


def test_a_server_that_stops_writing_its_file_confirms_nothing(disk: RedisServer) -> None:
    store = opened(disk, "local", timeout=20)
    store.log.heartbeat("p1", RETENTION)
    disk.configure("appendonly", "no")

    with pytest.raises(NotConfirmedError):
        store.log.heartbeat("p2", RETENTION)
    with pytest.raises(StoreUnavailableError, match="not set up safely"):
        store.log.heartbeat("p3", RETENTION)

    disk.configure("appendonly", "yes")
    until(lambda: _heartbeats(store))
    store.close()


def _heartbeats(store: RedisStore) -> bool:
    try:
        store.log.heartbeat("p4", RETENTION)
    except StoreUnavailableError:
        return False
    return True


def test_a_copy_whose_head_the_replica_does_not_confirm_is_written_and_reported(
    primary: RedisServer, replica: RedisServer
) -> None:
    store = RedisStore.connect(primary.url, demands=Demands(durability="replicas:1"), timeout=2.0)
    epoch = new_epoch()
    with ExitStack() as silence:

        def items() -> Iterator[CopiedItem]:
            yield CopiedUse(key="jti", until=samples.LATER)
            silence.enter_context(paused(replica))

        with pytest.raises(NotConfirmedError):
            store.copying.write_copy(items(), epoch, replace=False)
        assert store.log.head().epoch == epoch
        assert not store.copying.has_part_of_copy()
    store.close()


def test_a_copy_that_the_replica_does_not_confirm_before_its_head_is_not_there(
    primary: RedisServer, replica: RedisServer
) -> None:
    store = RedisStore.connect(primary.url, demands=Demands(durability="replicas:1"), timeout=2.0)
    with paused(replica), pytest.raises(StoreUnavailableError) as error:
        store.copying.write_copy([], new_epoch(), replace=False)
    assert not isinstance(error.value, NotConfirmedError)
    assert store.copying.has_part_of_copy()
    store.close()
