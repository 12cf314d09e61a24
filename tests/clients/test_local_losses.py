"""Local verification while services restart, stores lose entries, and clocks go wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from joserfc.jwk import ECKey

from identity_client import DecryptionKey, IdentityClient, LocalVerifier, NotFreshError
from identity_client.trust_state import TrustState
from identity_service.bootstrap import Service
from identity_service.domain.log import RecordKind
from identity_service.jose.encryption_keys import read_encryption_key
from identity_service.storage.redis import RedisStore
from identityapi.v1 import token_pb2
from tests.clients.answers import HEARTBEAT, not_fresh, said
from tests.faults.record_dumps import dump_records, restore_records
from tests.patience import until
from tests.redis_server import RedisServer
from tests.rpc.administrator import Administrator
from tests.rpc.conftest import running, settings_for_tests
from tests.rpc.heartbeats import Heartbeats
from tests.rpc.keys import signed_with
from tests.rpc.shop import Shop
from tests.rpc.world import API, World

pytestmark = pytest.mark.usefixtures("both_kinds")


@pytest.fixture
def world(redis_server: RedisServer) -> Iterator[World]:
    redis_server.start()
    redis_server.flush()
    settings = settings_for_tests(watch_heartbeat=HEARTBEAT)
    with running(settings, lambda clock: RedisStore.connect(redis_server.url, clock=clock)) as world:
        yield world


@contextmanager
def following(target: str, world: World) -> Iterator[LocalVerifier]:
    with LocalVerifier(target, issuer=world.settings.issuer) as verifier:
        verifier.wait_ready()
        yield verifier


@contextmanager
def another_process(world: World, redis_server: RedisServer) -> Iterator[str]:
    store = RedisStore.connect(redis_server.url, clock=world.clock)
    service = Service(world.settings, clock=world.clock, store=store)
    heartbeats = Heartbeats(service)
    port = service.start()
    try:
        with world.clock.followed_by(heartbeats.notices_a_move):
            yield f"127.0.0.1:{port}"
    finally:
        service.stop()
        store.close()


def retire(world: World, key_id: str) -> None:
    caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    caller.call("RetireKey", key_id=key_id, reason="leaked")


def locally(verifier: LocalVerifier, token: str) -> str:
    try:
        return said(verifier.verify(token, any_audience=True))
    except NotFreshError:
        return "not fresh"


def asked(client: IdentityClient, token: str) -> str:
    return said(client.verify(token, any_audience=True))


def test_a_retired_key_is_refused_by_a_later_verifier_of_a_later_process(
    world: World, redis_server: RedisServer
) -> None:
    token = world.issue(world.new_client()).access_token
    retire(world, signed_with(token))
    world.service.stop()

    with another_process(world, redis_server) as target, following(target, world) as verifier:
        assert said(verifier.verify(token, any_audience=True)) == "REVOKED"


def test_a_retired_key_stays_refused_by_all_when_the_store_forgot_that_it_was_retired(
    world: World, redis_server: RedisServer
) -> None:
    """An operator restores an earlier backup, in which the key still signs."""
    client = world.new_client()
    token = world.issue(client).access_token
    with redis.Redis(port=redis_server.port) as operator, following(world.target, world) as early:
        assert said(early.verify(token, any_audience=True)) == ""
        backup = dump_records(operator)
        retire(world, signed_with(token))
        until(lambda: locally(early, token) == "REVOKED")

        operator.flushall()
        until(lambda: not world.service._replica.is_fresh())
        restore_records(operator, backup)
        until(world.service._replica.is_fresh)

        assert locally(early, token) in ("REVOKED", "not fresh")
        until(lambda: locally(early, token) == "REVOKED")
        with IdentityClient(world.target) as asking:
            assert asked(asking, token) == "REVOKED"
        with another_process(world, redis_server) as target, following(target, world) as late:
            assert said(late.verify(token, any_audience=True)) == "REVOKED"
            with IdentityClient(target) as asking:
                assert asked(asking, token) == "REVOKED"
            after = world.issue(client).access_token
            assert signed_with(after) != signed_with(token)
            until(lambda: locally(late, after) == "")
        until(lambda: locally(early, after) == "")


def test_a_token_that_it_knows_goes_with_its_key(world: World) -> None:
    """The verifier forgets a key once every token that the key has signed has expired."""
    token = world.issue(world.new_client()).access_token
    with following(world.target, world) as verifier:
        assert locally(verifier, token) == ""

        world.store.records.delete(RecordKind.KEY, signed_with(token))

        until(lambda: locally(verifier, token) == "UNKNOWN_KEY")


REVOKED_PARTIES = ("orders", "portal", "ana", "stock")


@pytest.mark.parametrize("party", REVOKED_PARTIES)
def test_an_exchanged_token_is_revoked_with_each_of_its_actors(world: World, party: str) -> None:
    shop = Shop(world)
    twice = shop.exchange(shop.exchange(shop.sign_in().access_token).access_token, by=shop.stock).access_token
    bystander = world.issue(world.new_client()).access_token
    id_ = shop.ana.id if party == "ana" else party
    with following(world.target, world) as verifier:
        assert said(verifier.verify(twice, any_audience=True)) == ""

        world.revoke(world.admin_token(), subject=id_)

        until(lambda: locally(verifier, twice) == "REVOKED")
        assert shop.why(twice) == "REVOKED"
        assert locally(verifier, bystander) == ""


@pytest.mark.parametrize("hours", [-1, 1])
def test_it_judges_nothing_while_its_clock_is_not_that_of_the_service(world: World, hours: int) -> None:
    """Otherwise it could accept an expired token, or one whose denial it has forgotten."""
    token = world.issue(world.new_client()).access_token
    with following(world.target, world) as verifier:
        assert locally(verifier, token) == ""
        world.clock.advance(hours=hours)

        until(lambda: "clock" in not_fresh(verifier))

        world.clock.advance(hours=-hours)
        until(lambda: locally(verifier, token) == "")


def test_after_an_unexpected_error_nothing_is_judged_until_a_new_snapshot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = world.issue(world.new_client()).access_token
    fold: Callable[..., None] = TrustState.fold
    with following(world.target, world) as verifier:

        def broken(*_: object) -> None:
            raise KeyError("a bug")

        monkeypatch.setattr(TrustState, "fold", broken)
        until(lambda: "a bug" in not_fresh(verifier))
        world.revoke(token=token)
        monkeypatch.setattr(TrustState, "fold", fold)

        until(lambda: locally(verifier, token) == "REVOKED")


def test_a_closed_verifier_judges_nothing(world: World) -> None:
    token = world.issue(world.new_client()).access_token
    with following(world.target, world) as verifier:
        assert said(verifier.verify(token, any_audience=True)) == ""

    with pytest.raises(NotFreshError):
        verifier.verify(token, any_audience=True)


def test_a_token_that_is_encrypted_twice_is_refused(world: World) -> None:
    key = DecryptionKey(ECKey.generate_key("P-256").as_dict(private=True), key_id="api-1")
    world.new_client(API, encryption_key=key.public_jwk())
    once = world.issue(world.new_client(), encryption=token_pb2.TOKEN_ENCRYPTION_AUDIENCE).access_token
    twice = read_encryption_key(key.public_jwk()).encrypt(once)

    with LocalVerifier(world.target, issuer=world.settings.issuer, decryption_keys=[key]) as verifier:
        verifier.wait_ready()
        assert said(verifier.verify(once, audiences=[API])) == ""
        assert said(verifier.verify(twice, audiences=[API])) == "UNDECRYPTABLE"
