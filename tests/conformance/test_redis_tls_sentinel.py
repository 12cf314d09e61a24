"""Redis Sentinel over TLS: clients verify the certificates of Sentinels and primary, which verify theirs.

Servers and Sentinels announce their TLS ports to each other. Their plain ports are used by the tests alone.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ids import TokenId, new_epoch
from identity_service.storage.redis import RedisStore, keyspace
from identity_service.storage.redis.client.server_checks import Demands
from tests.redis_tls import RedisTls, skipped_without_tls
from tests.redis_topology import SentinelGroup, SentinelServer, TunedServer, say, stop_all, until


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> RedisTls:
    return RedisTls(tmp_path_factory.mktemp("certificates") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> RedisTls:
    return RedisTls(tmp_path_factory.mktemp("certificates") / "stranger")


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory, tls: RedisTls) -> Iterator[SentinelGroup]:
    """A Sentinel group for all tests of this module. The test of the failover changes its primary."""
    with skipped_without_tls():
        group = SentinelGroup(tmp_path_factory.mktemp("sentinels"), tls=tls)
    try:
        group.start()
        yield group
    finally:
        group.stop()


def denied(store: RedisStore, token_id: str) -> bool:
    try:
        store.facts.deny_token(TokenId(token_id), datetime.now(UTC) + timedelta(hours=1))
    except StoreUnavailableError:
        return False
    return True


def test_the_primary_is_found_over_tls_and_another_one_followed_after_it_has_died(
    group: SentinelGroup, tls: RedisTls
) -> None:
    demands = Demands(durability="replicas:1")
    store = RedisStore.connect(group.url + tls.query(), timeout=2.0, demands=demands)
    store.initialise(new_epoch())
    assert denied(store, "before")
    group.primary.kill()

    until(lambda: denied(store, "after"))

    store.close()
    (elected,) = (server for server in group.replicas if server.public_port == group.elected)
    for token_id in ("before", "after"):
        assert say(elected.port, f"EXISTS {keyspace.denial(TokenId(token_id))}") == ":1\r\n"


def test_sentinels_of_another_authority_are_not_believed(
    group: SentinelGroup, tls: RedisTls, stranger: RedisTls
) -> None:
    RedisStore.connect(group.url + tls.query()).close()

    with pytest.raises(StoreUnavailableError):
        RedisStore.connect(group.url + tls.query(authority=stranger.authority), timeout=2.0)


def test_a_client_of_another_authority_is_not_let_in(
    group: SentinelGroup, tls: RedisTls, stranger: RedisTls
) -> None:
    RedisStore.connect(group.url + tls.query()).close()

    with pytest.raises(StoreUnavailableError):
        RedisStore.connect(group.url + tls.query(client=stranger.client), timeout=2.0)


def test_sentinels_that_speak_tls_do_not_understand_plain_text(group: SentinelGroup) -> None:
    with pytest.raises(StoreUnavailableError):
        RedisStore.connect(group.url.replace("rediss", "redis"), timeout=2.0)


@pytest.mark.usefixtures("group")  # where the server has no TLS there is nothing to see
@pytest.mark.parametrize("fault", ["", "another authority", "another host"])
def test_a_primary_needs_a_trusted_certificate_whatever_the_sentinels_answer(
    tls: RedisTls, tmp_path: Path, fault: str
) -> None:
    """A trusted Sentinel tells the address of the primary, whose own certificate is verified as well."""
    other = RedisTls(tmp_path / "other", trusts=tls)
    elsewhere = tls.of_host(tmp_path / "elsewhere", "192.0.2.1")
    primary = TunedServer(
        tmp_path / "primary", tls={"another authority": other, "another host": elsewhere}.get(fault, tls)
    )
    primary.start()
    sentinel = SentinelServer(
        tmp_path / "sentinel", [f"sentinel monitor one 127.0.0.1 {primary.public_port} 1"], tls=tls
    )
    sentinel.start()
    url = f"rediss+sentinel://127.0.0.1:{sentinel.public_port}/one/0{tls.query()}"
    try:
        if fault:
            with pytest.raises(
                StoreUnavailableError, match=r"\(ConnectionError: CERTIFICATE_VERIFY_FAILED\)"
            ):
                RedisStore.connect(url, timeout=2.0)
        else:
            RedisStore.connect(url, timeout=2.0).close()
    finally:
        stop_all([sentinel, primary])
