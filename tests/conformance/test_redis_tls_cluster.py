"""A Redis Cluster over TLS: discovery, redirection and failover use TLS ports, and verify certificates.

The servers announce their TLS ports to clients that connect over TLS. Their plain ports are used by the tests
alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ids import SessionId, TokenId, new_epoch
from identity_service.storage.redis import RedisStore, keyspace
from identity_service.storage.redis.client.cluster import slot_of
from tests.conformance import samples
from tests.redis_tls import RedisTls, skipped_without_tls
from tests.redis_topology import ClusterGroup, say, until


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> RedisTls:
    return RedisTls(tmp_path_factory.mktemp("certificates") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory, tls: RedisTls) -> RedisTls:
    return RedisTls(tmp_path_factory.mktemp("certificates") / "stranger", trusts=tls)


@contextmanager
def running(group: ClusterGroup) -> Iterator[ClusterGroup]:
    try:
        with skipped_without_tls():
            group.start()
        yield group
    finally:
        group.stop()


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory, tls: RedisTls) -> Iterator[ClusterGroup]:
    """A cluster of three primaries without replicas, which all tests of this module share."""
    with running(ClusterGroup(tmp_path_factory.mktemp("cluster"), tls=[tls] * 3)) as group:
        yield group


@pytest.fixture
def replicated(tmp_path: Path, tls: RedisTls) -> Iterator[ClusterGroup]:
    """A cluster for one test, in which the node that holds the keys of `{idn}` has a replica."""
    with running(ClusterGroup(tmp_path, replica=True, tls=[tls] * 4)) as group:
        yield group


@pytest.fixture
def mixed(tmp_path: Path, tls: RedisTls, stranger: RedisTls) -> Iterator[ClusterGroup]:
    """A cluster whose third server has a certificate of another CA, which the other two servers trust."""
    ours = tls.believing(tmp_path / "ours", stranger)
    with running(ClusterGroup(tmp_path, tls=[ours, ours, stranger])) as group:
        yield group


@pytest.fixture
def store(group: ClusterGroup, tls: RedisTls) -> Iterator[RedisStore]:
    for server in group.servers:
        server.flush()
    store = RedisStore.connect(group.url + tls.query(), timeout=2.0)
    store.initialise(new_epoch())
    yield store
    store.close()


def session_on(number: int) -> SessionId:
    """Return the id of a session whose key lies on the server with this number (0 to 2)."""
    first = (0, 5461, 10923, 16384)
    return next(
        sid
        for n in range(1000)
        if first[number] <= slot_of(keyspace.session(sid := SessionId(f"s{n}"))) < first[number + 1]
    )


def denied(store: RedisStore, token_id: str) -> bool:
    try:
        store.facts.deny_token(TokenId(token_id), samples.LATER)
    except StoreUnavailableError:
        return False
    return True


def test_sessions_lie_on_every_server_and_all_else_on_one(group: ClusterGroup, store: RedisStore) -> None:
    assert denied(store, "t1")
    for number in range(3):
        store.sessions.create(samples.a_session(session_on(number)))

    keys = [say(server.port, "KEYS *") for server in group.servers]

    assert all("idn:s:{" in text for text in keys)
    assert ["{idn}:log" in text for text in keys] == [True, False, False]


def test_one_server_is_enough_to_find_the_others(
    group: ClusterGroup, store: RedisStore, tls: RedisTls
) -> None:
    sessions = [session_on(number) for number in range(3)]
    for sid in sessions:
        store.sessions.create(samples.a_session(sid))

    other = RedisStore.connect(f"rediss+cluster://127.0.0.1:{group.servers[2].public_port}{tls.query()}")

    assert None not in [other.sessions.read(sid) for sid in sessions]
    other.close()


def test_a_slot_that_has_moved_is_followed_at_once(group: ClusterGroup, store: RedisStore) -> None:
    """The redirection that the old owner of the slot answers contains the TLS port of the new one."""
    sid = session_on(1)
    store.sessions.read(sid)
    slot = slot_of(keyspace.session(sid))
    group.move(slot, 2)
    try:
        store.sessions.create(samples.a_session(sid))

        assert say(group.servers[2].port, f"EXISTS {keyspace.session(sid)}") == ":1\r\n"
    finally:
        group.servers[2].flush()
        group.move(slot, 1)


def test_the_failover_of_the_server_of_idn_is_followed(replicated: ClusterGroup, tls: RedisTls) -> None:
    store = RedisStore.connect(replicated.url + tls.query(), timeout=2.0)
    store.initialise(new_epoch())
    assert denied(store, "before")
    replicated.home.kill()

    until(lambda: denied(store, "after"))

    store.close()
    for token_id in ("before", "after"):
        assert say(replicated.replica.port, f"EXISTS {keyspace.denial(TokenId(token_id))}") == ":1\r\n"


def test_a_cluster_of_another_authority_is_not_believed(
    group: ClusterGroup, tls: RedisTls, stranger: RedisTls
) -> None:
    RedisStore.connect(group.url + tls.query()).close()

    with pytest.raises(StoreUnavailableError):
        RedisStore.connect(group.url + tls.query(authority=stranger.authority), timeout=2.0)


def test_a_client_of_another_authority_is_not_let_in(
    group: ClusterGroup, tls: RedisTls, tmp_path: Path
) -> None:
    RedisStore.connect(group.url + tls.query()).close()
    stranger = RedisTls(tmp_path / "stranger")

    with pytest.raises(StoreUnavailableError):
        RedisStore.connect(group.url + tls.query(client=stranger.client), timeout=2.0)


def test_a_cluster_that_speaks_tls_does_not_understand_plain_text(group: ClusterGroup) -> None:
    with pytest.raises(StoreUnavailableError):
        RedisStore.connect(group.url.replace("rediss", "redis"), timeout=2.0)


def test_every_server_needs_a_trusted_certificate_of_its_own(mixed: ClusterGroup, tls: RedisTls) -> None:
    store = RedisStore.connect(mixed.url + tls.query(), timeout=2.0)
    store.initialise(new_epoch())

    store.sessions.create(samples.a_session(session_on(1)))
    with pytest.raises(StoreUnavailableError, match=r"\(ConnectionError: CERTIFICATE_VERIFY_FAILED\)"):
        store.sessions.create(samples.a_session(session_on(2)))

    store.close()


def test_servers_are_found_by_the_names_that_their_certificates_have(tmp_path: Path, tls: RedisTls) -> None:
    named = tls.of_host(tmp_path / "named", "localhost")
    cluster = ClusterGroup(
        tmp_path,
        tls=[named] * 3,
        cluster_announce_hostname="localhost",
        cluster_preferred_endpoint_type="hostname",
    )
    with running(cluster) as group:
        store = RedisStore.connect(group.url.replace("127.0.0.1", "localhost") + tls.query(), timeout=2.0)
        store.initialise(new_epoch())
        for number in range(3):
            store.sessions.create(samples.a_session(session_on(number)))
        store.close()
