"""The Redis store removes stale data: sessions in lists, consumed keys, names of an older version."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from identity_service.domain.errors import AlreadyExistsError
from identity_service.domain.ids import PrincipalId, SessionId
from identity_service.domain.log import RecordKind
from identity_service.domain.principals import User
from identity_service.storage.record_codec import encode_record
from identity_service.storage.redis import RedisStore
from tests.conformance import samples
from tests.redis_server import RedisServer, ask


@pytest.fixture
def store(redis_store: RedisStore) -> RedisStore:
    return redis_store


DAY = 86_400


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def test_a_session_that_was_lost_leaves_the_lists_when_they_are_read(
    server: RedisServer, store: RedisStore
) -> None:
    """A failover of one server can lose the session, while the lists are on another server."""
    for name in ("s1", "s2", "s3"):
        store.sessions.create(samples.a_session(name, expire_time=soon(), generations={}))
    ask(server.port, b"DEL idn:s:{s2}\r\n")

    listed = store.sessions.list_of(PrincipalId("u_1"), limit=2)

    assert [session.session_id for session in listed] == ["s3", "s1"]
    assert ask(server.port, b"ZCARD {idn}:sessions:u_1\r\n") == b":2\r\n"


def test_a_session_that_has_ended_leaves_the_lists_when_they_are_read(
    server: RedisServer, store: RedisStore
) -> None:
    store.sessions.create(samples.a_session("s1", expire_time=soon(), generations={}))
    store.facts.end_session(SessionId("s1"), deny_until=soon(), end_until=soon())

    assert store.sessions.list_of(PrincipalId("u_1")) == []

    assert ask(server.port, b"EXISTS {idn}:sessions:u_1\r\n") == b":0\r\n"


def test_a_list_of_sessions_goes_a_day_after_the_last_of_them(server: RedisServer, store: RedisStore) -> None:
    last = soon() + timedelta(hours=1)
    store.sessions.create(samples.a_session("s1", expire_time=last))
    store.sessions.create(samples.a_session("s2", expire_time=soon()))
    store.sessions.list_of(PrincipalId("u_1"), before="unknown")

    seconds = ask(server.port, b"EXPIRETIME {idn}:sessions:u_1\r\n")

    assert abs(int(seconds.strip().lstrip(b":")) - last.timestamp() - DAY) <= 1


def test_something_used_up_is_forgotten_a_day_after_its_time(server: RedisServer, store: RedisStore) -> None:
    until = soon()
    store.single_use.consume("jti", until)
    store.single_use.consume("jti", until + timedelta(hours=1))

    seconds = ask(server.port, b"EXPIRETIME {idn}:used:jti\r\n")

    assert abs(int(seconds.strip().lstrip(b":")) - until.timestamp() - DAY) <= 1


def test_users_of_an_older_store_are_found_renamed_and_deleted_by_their_names(
    server: RedisServer, store: RedisStore
) -> None:
    """The older version stored the username as a field of the user, and had no list of names."""
    users = [samples.a_user("u_1", "Alice"), samples.a_user("u_2", "Bob")]
    old: Any  # its stubs take no mapping of text to text
    with closing(redis.Redis(port=server.port)) as old:
        for user in users:
            value, name = encode_record(user), user.username.lower()
            fields = {"value": value, "username": name, "revision": f"{store.log.head().epoch}.0"}
            old.hset(f"{{idn}}:user:{user.id}", mapping=fields)
            old.hset("{idn}:usernames", name, user.id)
            old.zadd("{idn}:index:user", {user.id: 0})
    found = store.records.find_user("ALICE")
    assert found is not None
    assert found.record == users[0]

    with pytest.raises(AlreadyExistsError):
        store.records.create(samples.a_user("u_3", "alice"))
    store.records.update(samples.a_user("u_1", "Carol"), expected=found.revision)
    store.records.delete(RecordKind.USER, "u_2")

    store.records.create(samples.a_user("u_3", "alice"))
    store.records.create(samples.a_user("u_4", "bob"))
    assert [user.record.id for user in store.records.list_of(User)] == ["u_1", "u_3", "u_4"]


def test_a_client_is_not_found_by_a_certificate_that_it_no_longer_has(
    server: RedisServer, store: RedisStore
) -> None:
    """The index of names is read first, so the client may lose the certificate between the two reads."""
    store.records.create(samples.a_client("a", certificates=frozenset({"dns:new.example"})))
    ask(server.port, b"HSET {idn}:names:client dns:old.example a\r\n")

    assert store.records.find_client("dns:new.example") is not None
    assert store.records.find_client("dns:old.example") is None
