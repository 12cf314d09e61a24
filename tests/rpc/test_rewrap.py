"""Replacing the master key while the service runs, on both stores."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from pydantic import SecretStr

from identity_service.bootstrap import Service
from identity_service.composition.opening import open_vault
from identity_service.domain.errors import ConfigurationError
from identity_service.domain.keys import StoredKey
from identity_service.domain.store import Store
from identity_service.storage.redis import RedisStore
from identity_service.storage.sqlite import SqliteStore
from identityapi.v1 import admin_service_pb2 as pb
from tests.patience import until
from tests.rpc.administrator import Administrator, events
from tests.rpc.conftest import MASTER_KEY, StartWorld
from tests.rpc.heartbeats import Heartbeats
from tests.rpc.outages import reason_of
from tests.rpc.world import World

NEW = "the master key of tomorrow, 32 characters or more"

Beside = Callable[..., World]


@pytest.fixture
def beside(world: World, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Beside]:
    """A function that starts another process on the same store with the given master keys."""
    with ExitStack() as cleanup:

        def start(master_key: str, other: str | None = None) -> World:
            store: Store
            if isinstance(world.store, RedisStore):
                store = RedisStore.connect(request.getfixturevalue("redis_server").url, clock=world.clock)
            else:
                store = SqliteStore.open(str(tmp_path / "identity.db"), clock=world.clock)
            cleanup.callback(store.close)
            secrets = {
                "master_key": SecretStr(master_key),
                "other_master_key": SecretStr(other) if other else None,
            }
            settings = world.settings.model_copy(update=secrets)
            service = Service(settings, clock=world.clock, store=store)
            cleanup.callback(service.stop)
            heartbeats = Heartbeats(service)
            target = f"127.0.0.1:{service.start()}"
            cleanup.enter_context(world.clock.followed_by(heartbeats.notices_a_move))
            channel = cleanup.enter_context(grpc.insecure_channel(target))
            return replace(
                world, settings=settings, service=service, target=target, channel=channel, store=store
            )

        yield start


def rewrap(world: World) -> tuple[int, int]:
    caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))
    answer: pb.RewrapKeysResponse = caller.call("RewrapKeys")
    return answer.rewrapped, answer.total


def test_the_master_key_is_changed_step_by_step_and_every_token_goes_on(world: World, beside: Beside) -> None:
    client, ana = world.new_client(), world.new_user()
    token, session = world.issue(client).access_token, world.issue(ana)

    first = beside(MASTER_KEY, other=NEW)
    second = beside(NEW, other=MASTER_KEY)
    assert first.reason(token) == second.reason(token) == ""
    assert rewrap(second) == (6, 6)
    assert rewrap(second) == (0, 6)
    for running in (first, second, beside(NEW)):
        assert running.reason(token) == ""
        assert running.reason(running.issue(client).access_token) == ""
        assert running.refresh(session.refresh_token).refresh_token
        session = running.issue(ana)


def test_after_that_the_old_one_opens_nothing_and_is_refused_at_start(world: World, beside: Beside) -> None:
    rewrap(beside(NEW, other=MASTER_KEY))

    with pytest.raises(ConfigurationError, match="master key does not open"):
        beside(MASTER_KEY)
    vault = open_vault(world.settings)
    for found in world.store.records.list_of(StoredKey, limit=100):
        with pytest.raises(ConfigurationError):
            vault.reseal(found.record)


def test_a_process_that_has_the_new_one_as_its_other_opens_keys_that_are_made_with_it(
    world: World, beside: Beside
) -> None:
    first = beside(MASTER_KEY, other=NEW)
    second = beside(NEW, other=MASTER_KEY)
    client = world.new_client()
    world.clock.advance(hours=2)
    caller = Administrator(second, second.admin_token(scopes=["identity.admin"]))
    caller.call("RotateKeys")
    token = second.issue(client).access_token

    until(lambda: first.reason(token) == "")


def test_a_process_that_cannot_open_a_new_key_is_unavailable_instead_of_refusing_its_tokens(
    world: World, beside: Beside
) -> None:
    second = beside(NEW, other=MASTER_KEY)
    client = world.new_client()
    world.clock.advance(hours=2)
    Administrator(second, second.admin_token(scopes=["identity.admin"])).call("RotateKeys")
    token = second.issue(client).access_token

    world.clock.age(world.settings.max_staleness.total_seconds() + 1)
    until(lambda: reason_of(lambda: world.verify(token)) == "NO_SIGNING_KEY")
    assert reason_of(lambda: world.issue(client)) == "NO_SIGNING_KEY"
    until(lambda: reason_of(lambda: second.verify(token)) == "")
    assert second.reason(token) == ""


def test_a_key_that_was_sealed_anew_is_the_same_and_leaves_an_event(world: World, beside: Beside) -> None:
    before = {f.record.key_id: f.record for f in world.store.records.list_of(StoredKey, limit=100)}
    rewrap(beside(NEW, other=MASTER_KEY))
    after = {f.record.key_id: f.record for f in world.store.records.list_of(StoredKey, limit=100)}

    for key_id, key in after.items():
        assert key.sealed != before[key_id].sealed
        assert replace(key, sealed="") == replace(before[key_id], sealed="")
        assert [event.type for event in events(world, key_id)][-1] == "key_rewrapped"


def test_the_other_master_key_is_as_long_as_the_master_key(start_world: StartWorld) -> None:
    with pytest.raises(ConfigurationError, match="at least 32"):
        start_world(other_master_key="short")
