"""The answers of a service that starts on a store whose log was lost or is damaged."""

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from identity_service.domain.errors import StoreDamagedError
from tests.conformance.backends import Backend, RedisBackend, SqliteBackend
from tests.faults.tally import Tally
from tests.redis_server import RedisServer
from tests.rpc.conftest import STORES, address, settings_for_tests
from tests.rpc.restartable import Restartable
from tests.rpc.world import failure

Lose = Callable[[Backend], None]


@pytest.fixture(params=STORES)
def spoiler(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """An object that removes or changes the content of the store of the fixture `process`."""
    if request.param == "sqlite":
        return SqliteBackend(tmp_path)
    server: RedisServer = request.getfixturevalue("redis_server")
    return RedisBackend(server)


@pytest.fixture
def process(spoiler: Backend, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restartable]:
    kind = "sqlite" if isinstance(spoiler, SqliteBackend) else "redis"
    process = Restartable(settings_for_tests(), address(kind, tmp_path, request).open)
    process.start()
    yield process
    process.stop()


@pytest.mark.parametrize(
    "lose",
    [
        lambda spoiler: spoiler.lose_log(),
        lambda spoiler: spoiler.remove_entries(1, 20),
        lambda spoiler: spoiler.remove_entries(10, 30),
    ],
    ids=["the whole log", "its first entries", "some in the middle"],
)
def test_revocations_survive_a_loss_of_the_log_while_no_process_runs(
    process: Restartable, spoiler: Backend, lose: Lose
) -> None:
    world = process.world
    client, user, admin = world.new_client(), world.new_user(), world.admin_token()
    by_token, control = ([world.issue(client) for _ in range(8)] for _ in range(2))
    by_id = [world.issue(client) for _ in range(8)]
    ended, living = ([world.issue(user) for _ in range(8)] for _ in range(2))
    for issued in by_token:
        world.revoke(token=issued.access_token)
    for issued in by_id:
        world.revoke(admin, token_id=issued.token_id)
    for issued in ended:
        world.revoke(admin, session_id=issued.session_id)
    process.stop()
    lose(spoiler)

    process.start()
    world = process.world
    revoked = [*by_token, *by_id, *ended]
    reasons = [world.reason(issued.access_token) for issued in revoked]
    store = "SQLite" if isinstance(spoiler, SqliteBackend) else "Redis"
    tally = Tally(scenario=f"log or a part of it lost while nothing runs, {store}")
    tally.revoked(len(revoked))
    tally.answered(*(reason == "" for reason in reasons))
    tally.asked(len(control) + len(living))
    tally.publish()
    assert set(reasons) == {"REVOKED"}
    assert {world.reason(issued.access_token) for issued in (*control, *living)} == {""}
    for issued in ended:
        with pytest.raises(grpc.RpcError) as error:
            world.refresh(issued.refresh_token)
        assert failure(error.value).reason == "SESSION_ENDED"
    assert all(world.refresh(issued.refresh_token).access_token for issued in living)


def test_a_damaged_head_is_named_in_the_answer_to_revoke_and_prevents_a_start(
    process: Restartable, spoiler: Backend
) -> None:
    world = process.world
    issued, admin = world.issue(world.new_client()), world.admin_token()
    if isinstance(spoiler, SqliteBackend):
        spoiler.execute("UPDATE log_head SET position = 'abc'")
    else:
        assert isinstance(spoiler, RedisBackend)
        with spoiler.client() as client:
            client.hset("{idn}:log:head", "position", "abc")

    with pytest.raises(grpc.RpcError) as error:
        world.revoke(admin, token_id=issued.token_id)
    found = failure(error.value)
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_DAMAGED")
    assert "head" in found.message
    assert world.reason(issued.access_token) == "REVOKED", "denied here at once, and sent until it is taken"
    process.stop()
    with pytest.raises(StoreDamagedError, match="head"):
        process.start()
