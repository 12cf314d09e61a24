"""Redis Cluster with real processes: sessions on all nodes, redirections, a failover of the node of `{idn}`.

All keys except those of sessions have the hash tag `{idn}`, and therefore lie on one node.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from identity_service.domain.errors import (
    ConfigurationError,
    NotConfirmedError,
    StoreReplacedError,
    StoreUnavailableError,
    UnsafeStoreError,
)
from identity_service.domain.ids import Epoch, SessionId, TokenId, new_epoch
from identity_service.storage.redis import RedisStore, keyspace
from identity_service.storage.redis.client import connection
from identity_service.storage.redis.client.cluster import slot_of
from identity_service.storage.redis.client.server_checks import Demands
from tests.conformance import samples
from tests.redis_topology import ClusterGroup, node_id, paused, running, say, until


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterGroup]:
    """A cluster of three primaries without replicas, which all tests of this module share."""
    with running(ClusterGroup(tmp_path_factory.mktemp("cluster"))) as group:
        yield group


@pytest.fixture
def store(group: ClusterGroup) -> Iterator[RedisStore]:
    for server in group.servers:
        server.flush()
    store = RedisStore.connect(group.url, timeout=2.0)
    store.initialise(new_epoch())
    yield store
    store.close()


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[ClusterGroup]:
    """A cluster for one test, in which the node that holds the keys of `{idn}` has a replica."""
    with running(ClusterGroup(tmp_path, replica=True)) as group:
        for server in (group.home, group.replica):
            server.configure("min-replicas-to-write", "1")
            server.configure("min-replicas-max-lag", "2")
        yield group


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def session_elsewhere() -> SessionId:
    """Return the id of a session whose key lies on another node than the keys of `{idn}`."""
    return next(sid for n in range(100) if slot_of(keyspace.session(sid := SessionId(f"s{n}"))) > 5460)


def denied(store: RedisStore, token_id: str) -> bool:
    try:
        store.facts.deny_token(TokenId(token_id), soon())
    except StoreUnavailableError:
        return False
    return True


def reads(store: RedisStore) -> bool:
    try:
        store.log.head()
    except StoreUnavailableError:
        return False
    return True


def test_slots_are_counted_as_the_servers_count_them(group: ClusterGroup) -> None:
    for key in ("{idn}:head", "idn:s:{abc}", "plain", "{}x"):
        assert say(group.home.port, f"CLUSTER KEYSLOT {key}") == f":{slot_of(key)}\r\n"


def test_sessions_lie_on_every_server_and_all_else_on_one(group: ClusterGroup, store: RedisStore) -> None:
    store.facts.deny_token(TokenId("t1"), soon())
    for number in range(30):
        store.sessions.create(samples.a_session(f"s{number}"))

    keys = [say(server.port, "KEYS *") for server in group.servers]

    assert all("idn:s:{" in text for text in keys)
    assert ["{idn}:log" in text for text in keys] == [True, False, False]


def test_a_session_elsewhere_is_refused_when_it_has_ended_here(store: RedisStore) -> None:
    session = samples.a_session(session_elsewhere())
    store.sessions.create(session)
    store.facts.end_session(session.session_id, deny_until=samples.LATER, end_until=samples.MUCH_LATER)

    state = store.sessions.read(session.session_id)

    assert state is not None
    assert state.ended


def test_a_session_elsewhere_is_not_written_under_another_epoch(store: RedisStore) -> None:
    session = samples.a_session(session_elsewhere())
    store.sessions.create(session)
    store.log.adopt(Epoch("another"))

    with pytest.raises(StoreReplacedError):
        store.sessions.replace(session, expected_version=1)
    with pytest.raises(StoreReplacedError):
        store.sessions.create(samples.a_session())


def test_a_slot_that_has_moved_is_followed_at_once_by_writes_too(
    group: ClusterGroup, store: RedisStore
) -> None:
    """A node that redirects a command has not executed it, so any write may be sent to the other node."""
    sid = session_elsewhere()
    store.sessions.create(samples.a_session(sid))
    store.sessions.replace(samples.a_session(sid), expected_version=1)
    slot = slot_of(keyspace.session(sid))
    group.servers[1].flush()
    group.servers[2].flush()
    owner = 1 if slot <= 10922 else 2
    group.move(slot, 3 - owner)
    try:
        store.sessions.create(samples.a_session(sid))

        assert "idn:s" in say(group.servers[3 - owner].port, "KEYS *")
    finally:
        group.servers[3 - owner].flush()
        group.move(slot, owner)


def test_of_servers_that_name_each_other_the_one_that_knows_last_is_waited_for(
    group: ClusterGroup, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new owner of a slot may learn of the move last, and redirects to the old owner until then."""
    monkeypatch.setattr(connection, "_REDIRECTIONS", (0.01,) * 1000)
    sid = session_elsewhere()
    owner = 1 if slot_of(keyspace.session(sid)) <= 10922 else 2
    former, latter = group.servers[owner], group.servers[3 - owner]
    command = f"CLUSTER SETSLOT {slot_of(keyspace.session(sid))} NODE " + node_id(latter)
    say(latter.port, "CONFIG RESETSTAT")
    say(former.port, command)
    with ThreadPoolExecutor() as pool:
        try:
            creating = pool.submit(store.sessions.create, samples.a_session(sid))
            until(lambda: "errorstat_MOVED" in say(latter.port, "INFO errorstats"))
            say(latter.port, command)
            creating.result()

            assert say(latter.port, f"EXISTS {keyspace.session(sid)}") == ":1\r\n"
        finally:
            latter.flush()
            group.move(slot_of(keyspace.session(sid)), owner)


def test_an_unreachable_server_of_sessions_affects_no_other_data(
    group: ClusterGroup, store: RedisStore
) -> None:
    store.sessions.create(samples.a_session(session_elsewhere()))
    with paused(group.servers[1]), paused(group.servers[2]):
        with pytest.raises(StoreUnavailableError):
            store.sessions.read(session_elsewhere())
        assert denied(store, "t1")
    until(lambda: "cluster_state:ok" in say(group.home.port, "CLUSTER INFO"))


def test_any_of_the_named_servers_is_enough_to_find_the_others(group: ClusterGroup) -> None:
    url = f"redis+cluster://127.0.0.1:1,127.0.0.1:{group.servers[2].port}"
    store = RedisStore.connect(url)
    store.close()


def test_the_failover_of_the_server_of_idn_is_followed(replicated: ClusterGroup) -> None:
    store = RedisStore.connect(replicated.url, timeout=2.0, demands=Demands(durability="replicas:1"))
    store.initialise(new_epoch())
    assert denied(store, "before")
    replicated.home.kill()

    until(lambda: reads(store))
    assert not denied(store, "alone")  # the new primary has no replica, and may not take writes
    replicated.home.start()
    until(lambda: denied(store, "after"))

    store.close()
    for token_id in ("before", "after"):
        assert say(replicated.replica.port, f"EXISTS {keyspace.denial(TokenId(token_id))}") == ":1\r\n"


def test_a_confirmation_counts_only_servers_that_have_this_write(replicated: ClusterGroup) -> None:
    store = RedisStore.connect(replicated.url, timeout=2.0, demands=Demands(durability="replicas:1"))
    store.initialise(new_epoch())
    store.log.heartbeat("p1", timedelta(days=1))

    with paused(replicated.replica), pytest.raises(NotConfirmedError):
        store.log.heartbeat("p2", timedelta(days=1))
    store.close()


def test_only_the_server_of_idn_must_refuse_writes_without_its_replicas(replicated: ClusterGroup) -> None:
    store = RedisStore.connect(replicated.url)
    demands = Demands(durability="local")
    assert store.check(demands) == []
    replicated.home.configure("min-replicas-to-write", "0")

    (finding,) = store.check(demands)

    store.close()
    assert finding.severity == "refuse"


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [("min-replicas-to-write", "0", "1"), ("maxmemory-policy", "allkeys-lru", "noeviction")],
)
def test_a_server_of_idn_that_becomes_unsafe_at_run_time_stops_every_revocation(
    replicated: ClusterGroup, name: str, wrong: str, right: str
) -> None:
    store = RedisStore.connect(replicated.url, timeout=1.0, demands=Demands(durability="local"))
    store.initialise(new_epoch())
    assert denied(store, "control")
    replicated.home.configure(name, wrong)

    with pytest.raises(UnsafeStoreError, match=f"{name} {right}"):
        until(lambda: bool(store.log.heartbeat("p1", timedelta(days=1))) and False)
    assert not denied(store, "meanwhile")

    replicated.home.configure(name, right)
    until(lambda: denied(store, "after"))
    store.close()


def test_another_server_that_becomes_unsafe_stops_only_the_sign_ins_stored_there(
    replicated: ClusterGroup,
) -> None:
    store = RedisStore.connect(replicated.url, timeout=1.0, demands=Demands(durability="local"))
    store.initialise(new_epoch())
    there = (SessionId(f"s{n}") for n in count())
    there = (session_id for session_id in there if slot_of(keyspace.session(session_id)) > 10922)
    store.sessions.create(samples.a_session(next(there)))
    replicated.servers[2].configure("maxmemory-policy", "allkeys-lru")

    def signs_in() -> bool:
        store.sessions.create(samples.a_session(next(there)))
        return False

    with pytest.raises(UnsafeStoreError, match="maxmemory-policy"):
        until(signs_in)
    assert denied(store, "elsewhere")
    store.close()


@pytest.mark.parametrize("url", ["redis+cluster://", "redis+cluster://127.0.0.1:1/3"])
def test_a_url_without_hosts_or_with_a_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="cluster"):
        RedisStore.connect(url)
