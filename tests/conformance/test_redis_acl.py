"""The Redis user of `docs/redis.md`: its permissions suffice for every call, and none is superfluous."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from identity_service.domain.attempts import AllClaimsInUse, AttemptPolicy, Limit, Paused, Verdict
from identity_service.domain.audit import AuditFilter
from identity_service.domain.copying import CopiedSession
from identity_service.domain.errors import (
    AlreadyExistsError,
    StaleEtagError,
    StoreUnavailableError,
    UnsafeStoreError,
)
from identity_service.domain.ids import PrincipalId, SessionId, TokenId, new_epoch
from identity_service.domain.log import RecordChanged, RecordKind
from identity_service.storage.redis import RedisStore
from identity_service.storage.redis.attempts import RedisAttempts
from identity_service.storage.redis.client.server_checks import Demands
from tests.conformance import samples
from tests.conformance.copies import FENCE, Copied
from tests.redis_server import RedisServer, packaged_server
from tests.redis_topology import TunedServer, say, until

PAGE: Final = Path(__file__).parents[2] / "docs" / "redis.md"


def documented() -> str:
    """Return the ACL rules of the user in docs/redis.md, without the leading word `user`."""
    found = re.search(r"```acl\nuser (.+)\n```", PAGE.read_text())
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = TunedServer(tmp_path_factory.mktemp("acl"))
    server.start()
    yield server
    server.stop()


def connect(
    server: RedisServer, user: str, durability: str = "local", *, unchecked: bool = False
) -> RedisStore:
    """Return an initialised store whose connection is authenticated as a user with the given ACL rules."""
    server.flush()
    say(server.port, "SCRIPT FLUSH")
    say(server.port, f"ACL SETUSER identity reset {user.removeprefix('identity ')}")
    url = f"redis://identity:password@127.0.0.1:{server.port}/0"
    demands = Demands(durability=durability, config_unchecked=unchecked)
    store = RedisStore.connect(url, demands=demands, timeout=2.0)
    try:
        store.initialise(new_epoch())
    except BaseException:
        store.close()
        raise
    return store


def use_everything(store: RedisStore) -> None:
    """Make each call of the port once, so that each of its scripts runs to its end."""
    for call in samples.READS.values():
        call(store)
    session = samples.a_session("s1")
    store.sessions.create(session)
    assert store.sessions.read(session.session_id) is not None
    assert store.sessions.replace(session, expected_version=1)
    for _ in range(2):
        store.facts.deny_token(TokenId("t1"), samples.LATER)
        store.facts.end_session(SessionId("s1"), deny_until=samples.LATER, end_until=samples.MUCH_LATER)
        store.facts.raise_generation(PrincipalId("u_1"), above=0, request_id="r")
    etag = store.records.create(samples.a_user("u_1", "alice")).revision
    with pytest.raises(AlreadyExistsError):
        store.records.create(samples.a_user("u_1", "bob"))
    etag = store.records.update(samples.a_user("u_1", "carol"), expected=etag, revoke=True).revision
    with pytest.raises(StaleEtagError):
        store.records.update(samples.a_user("u_1"), expected=samples.NOWHERE)
    assert store.records.list_of(type(samples.a_user()))
    store.records.delete(RecordKind.USER, "u_1")
    store.records.create(samples.a_client("with-certificate", certificates=frozenset({"dns:a.example"})))
    assert store.records.find_client("dns:a.example") is not None
    assert store.sessions.list_of(session.subject) == []  # it has ended, and leaves the list
    store.sessions.list_of(session.subject, before="s1")
    assert store.single_use.consume("jti", samples.LATER)
    assert not store.single_use.consume("jti", samples.LATER)
    store.audit.append([samples.an_event()])
    assert store.audit.list_newest(AuditFilter())[0]
    assert store.audit.read_after("", 10)
    for verdict in (Verdict.WRONG, Verdict.WRONG, Verdict.RIGHT):
        counter = RedisAttempts(store._connection, store._writer, kept=1)
        claim = counter.claim([Limit(name, AttemptPolicy(free=5)) for name in ("one", "other")])
        assert not isinstance(claim, Paused | AllClaimsInUse)
        claim.settle(verdict)
    head = store.log.heartbeat("p1", timedelta(microseconds=1))  # so that there is something to trim
    changes = [entry.change for entry in store.log.read(0, 100).entries]
    store.log.repair([change for change in changes if not isinstance(change, RecordChanged)])
    store.log.wait(0, 0.01)
    store.log.trim(1)
    assert store.log.heartbeats()
    store.accept_clock(head.time)
    store.log.adopt(store.log.renew(head.epoch, new_epoch()))
    assert store.log.rebuild() == 1  # the denial whose entry was trimmed
    copy_everything(store)


def copy_everything(store: RedisStore) -> None:
    """Copy the store into itself, and make every other call of copying, such as setting a fence."""
    store.copying.fence(FENCE)
    assert store.copying.fenced() == FENCE
    assert not store.copying.is_empty()
    with store.copying.export(whole=True) as (_, found):
        items = [*found, CopiedSession(session=samples.a_session("s2"))]
    store.copying.write_copy(items, FENCE.epoch, replace=True)
    assert store.copying.generations_held()
    store.log.adopt(FENCE.epoch)
    assert store.log.rebuild()
    with store.copying.export(whole=True) as (_, found):
        assert Copied(found).sessions.keys() == {"s2"}
    store.copying.lift_fence()
    with pytest.raises(AlreadyExistsError):
        store.copying.discard_copy()


def has_waitaof(server: RedisServer) -> bool:
    return "waitaof" in say(server.port, "COMMAND INFO waitaof").lower()


def for_this(server: RedisServer, user: str) -> str:
    """Add the permission for WAITAOF to the ACL rules if the server has that command, as the page says."""
    return f"{user} +waitaof" if has_waitaof(server) else user


def test_the_documented_user_may_do_everything_that_the_service_does(server: RedisServer) -> None:
    store = connect(server, for_this(server, documented()))
    use_everything(store)
    assert store.check(Demands(durability="local")) == []
    store.close()


RIGHTS: Final = re.findall(r"\+\S+", documented())
LOOKS: Final = ("+info", "+config|get")
"""Permissions to read the server's settings. A service without them runs only if the operator vouches for
those."""
IDLE: Final = "+ping"
"""The permission to check a connection that has been idle. Without it, each idle connection is believed to
work."""


@pytest.mark.parametrize("right", [r for r in RIGHTS if r not in (*LOOKS, IDLE)])
def test_without_any_of_its_rights_some_call_fails(server: RedisServer, right: str) -> None:
    durability = "replicas:1" if right == "+wait" else "local"

    with pytest.raises(StoreUnavailableError):
        use_everything_as(server, for_this(server, without(right)), durability)


@pytest.mark.parametrize("right", LOOKS)
def test_without_access_to_the_configuration_the_service_runs_if_the_operator_vouches_for_it(
    server: RedisServer, right: str
) -> None:
    store = connect(server, for_this(server, without(right)), unchecked=True)
    use_everything(store)
    (finding,) = store.check(Demands(durability="local", config_unchecked=True))
    store.close()

    assert finding.severity == "warn"
    assert right.removeprefix("+") in finding.fix


@pytest.mark.parametrize("right", LOOKS)
def test_without_access_to_the_configuration_the_server_is_refused_with_a_fix(
    server: RedisServer, right: str
) -> None:
    with pytest.raises(UnsafeStoreError) as refused:
        use_everything_as(server, for_this(server, without(right)), "local")

    assert right in str(refused.value)
    assert "redis_config_unchecked = true" in str(refused.value)


def test_a_permission_that_is_removed_at_run_time_is_noticed_by_the_second_heartbeat(
    server: RedisServer,
) -> None:
    store = connect(server, for_this(server, documented()))
    store.log.heartbeat("p1")
    say(server.port, "ACL SETUSER identity -config|get")

    with pytest.raises(UnsafeStoreError, match="CONFIG GET"):
        until(lambda: bool(store.log.heartbeat("p1")) and False)

    say(server.port, "ACL SETUSER identity +config|get")
    until(lambda: heartbeats(store))
    store.close()


def heartbeats(store: RedisStore) -> bool:
    try:
        store.log.heartbeat("p1")
    except StoreUnavailableError:
        return False
    return True


def without(right: str) -> str:
    return " ".join(word for word in documented().split(" ") if word != right)


def use_everything_as(server: RedisServer, user: str, durability: str) -> None:
    store = connect(server, user, durability)
    try:
        use_everything(store)
    finally:
        store.close()


def test_it_may_touch_no_key_of_another_application(server: RedisServer) -> None:
    connect(server, documented()).close()

    answer = say(server.port, "ACL DRYRUN identity HSET other field value")

    assert "no permission" in answer


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[RedisServer]:
    """Yield a server that has the command WAITAOF, and syncs its append-only file each second."""
    server = TunedServer(tmp_path, binary=packaged_server(), appendfsync="everysec")
    server.start()
    yield server
    server.stop()


def test_with_waitaof_the_same_user_writes_to_a_disk_that_is_synced_each_second(newer: RedisServer) -> None:
    store = connect(newer, f"{documented()} +waitaof")
    store.facts.deny_token(TokenId("t1"), samples.LATER)
    store.close()


def test_a_server_that_denies_waitaof_is_refused_with_a_fix(newer: RedisServer) -> None:
    """Without WAITAOF the service would not notice that the append-only file was turned off."""
    say(newer.port, "CONFIG SET appendfsync always")

    with pytest.raises(UnsafeStoreError, match=r"\+waitaof"):
        connect(newer, documented())
