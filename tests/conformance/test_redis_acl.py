"""The service as the user of `docs/redis.md`: enough for every call, and not one command more."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from identity_service.domain.audit import AuditFilter
from identity_service.domain.errors import AlreadyExistsError, StaleEtagError, StoreUnavailableError
from identity_service.domain.ids import PrincipalId, SessionId, TokenId, new_epoch
from identity_service.domain.log import RecordChanged, RecordKind
from identity_service.storage.redis import RedisStore
from identity_service.storage.redis.checks import Demands
from tests.conformance import samples
from tests.redis_server import RedisServer, packaged_server
from tests.redis_topology import TunedServer, say

PAGE: Final = Path(__file__).parents[2] / "docs" / "redis.md"


def documented() -> str:
    """The user as the page has it, without the word `user`."""
    found = re.search(r"```acl\nuser (.+)\n```", PAGE.read_text())
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = TunedServer(tmp_path_factory.mktemp("acl"))
    server.start()
    yield server
    server.stop()


def connect(server: RedisServer, user: str, durability: str = "local") -> RedisStore:
    """A store that was initialised, through a user with these rights."""
    server.flush()
    say(server.port, "SCRIPT FLUSH")
    say(server.port, f"ACL SETUSER identity reset {user.removeprefix('identity ')}")
    url = f"redis://identity:password@127.0.0.1:{server.port}/0"
    store = RedisStore.connect(url, demands=Demands(durability=durability), timeout=2.0)
    try:
        store.initialise(new_epoch())
    except BaseException:
        store.close()
        raise
    return store


def use_everything(store: RedisStore) -> None:
    """Each call of the port once, so that each of its scripts goes all the way."""
    for call in samples.READS.values():
        call(store)
    session = samples.a_session("s1")
    store.create_session(session)
    assert store.read_session(session.session_id) is not None
    assert store.replace_session(session, expected_version=1)
    for _ in range(2):
        store.deny_token(TokenId("t1"), samples.LATER)
        store.end_session(SessionId("s1"), deny_until=samples.LATER, end_until=samples.MUCH_LATER)
        store.raise_generation(PrincipalId("u_1"), above=0, request_id="r")
    etag = store.create(samples.a_user("u_1", "alice")).revision
    with pytest.raises(AlreadyExistsError):
        store.create(samples.a_user("u_1", "bob"))
    etag = store.update(samples.a_user("u_1", "carol"), expected=etag, revoke=True).revision
    with pytest.raises(StaleEtagError):
        store.update(samples.a_user("u_1"), expected=samples.NOWHERE)
    assert store.list_records(type(samples.a_user()))
    store.delete(RecordKind.USER, "u_1")
    store.create(samples.a_client("with-certificate", certificates=frozenset({"dns:a.example"})))
    assert store.find_client("dns:a.example") is not None
    assert store.list_sessions(session.subject) == []  # it has ended, and leaves the list
    store.list_sessions(session.subject, before="s1")
    assert store.consume("jti", samples.LATER)
    assert not store.consume("jti", samples.LATER)
    store.append_audit([samples.an_event()])
    assert store.list_audit(AuditFilter())[0]
    assert store.read_audit("", 10)
    counts = store.counts()
    counts.incr("name", 10)
    assert counts.get("name") == 1
    assert counts.get_expiry("name")
    counts.clear("name")
    head = store.beat("p1", timedelta(microseconds=1))  # so that there is something to trim
    changes = [entry.change for entry in store.read(0, 100).entries]
    store.restore([change for change in changes if not isinstance(change, RecordChanged)])
    store.wait(0, 0.01)
    store.trim(1)
    store.renew(head.epoch, new_epoch())


def test_the_documented_user_may_do_everything_that_the_service_does(server: RedisServer) -> None:
    store = connect(server, documented())
    use_everything(store)
    assert store.check_all(Demands(durability="local")) == []
    store.close()


RIGHTS: Final = re.findall(r"\+\S+", documented())
LOOKS: Final = ("+info", "+config|get")
"""Without these the service runs, and says what it may not look at."""
IDLE: Final = "+ping"
"""What keeps a connection that is long unused from being taken for a good one."""


@pytest.mark.parametrize("right", [r for r in RIGHTS if r not in (*LOOKS, IDLE)])
def test_without_any_of_its_rights_some_call_fails(server: RedisServer, right: str) -> None:
    durability = "replicas:1" if right == "+wait" else "local"

    with pytest.raises(StoreUnavailableError):
        use_everything_as(server, without(right), durability)


@pytest.mark.parametrize("right", LOOKS)
def test_without_a_look_at_the_set_up_the_service_runs_and_warns(server: RedisServer, right: str) -> None:
    # A server that has WAITAOF is asked for it where it does not say how it syncs.
    has_waitaof = "waitaof" in say(server.port, "COMMAND INFO waitaof").lower()
    store = connect(server, without(right) + " +waitaof" * has_waitaof)
    use_everything(store)
    (finding,) = store.check_all(Demands(durability="local"))
    store.close()

    assert finding.severity == "warn"
    assert right.removeprefix("+") in finding.fix


def without(right: str) -> str:
    return " ".join(word for word in documented().split(" ") if word != right)


def use_everything_as(server: RedisServer, user: str, durability: str) -> None:
    store = connect(server, user, durability)
    try:
        use_everything(store)
    finally:
        store.close()


def test_it_may_touch_no_key_of_anybody_else(server: RedisServer) -> None:
    connect(server, documented()).close()

    answer = say(server.port, "ACL DRYRUN identity HSET other field value")

    assert "no permission" in answer


def test_with_waitaof_the_same_user_writes_to_a_disk_that_is_synced_each_second(tmp_path: Path) -> None:
    server = TunedServer(tmp_path, binary=packaged_server(), appendfsync="everysec")
    server.start()
    try:
        store = connect(server, f"{documented()} +waitaof")
        store.deny_token(TokenId("t1"), samples.LATER)
        store.close()
    finally:
        server.stop()
