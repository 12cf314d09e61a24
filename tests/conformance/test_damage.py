"""Keys and rows with data that this service did not write: an error names them, none is skipped."""

from collections.abc import Callable

import pytest

from identity_service.domain.errors import StoreDamagedError
from identity_service.domain.ids import PrincipalId, SessionId, TokenId
from identity_service.domain.log import Revision
from identity_service.domain.principals import Client
from identity_service.domain.store import Store
from tests.conformance.backends import Backend, RedisBackend, SqliteBackend
from tests.conformance.replicas import follow
from tests.conformance.samples import LATER, MUCH_LATER, a_client, a_session

Spoil = Callable[[Backend], None]
Call = Callable[[Store], object]


def redis_command(*words: str) -> Spoil:
    def spoil(backend: Backend) -> None:
        if isinstance(backend, RedisBackend):
            with backend.client() as client:
                client.execute_command(*words)

    return spoil


def sql(statement: str, *words: object) -> Spoil:
    def spoil(backend: Backend) -> None:
        if isinstance(backend, SqliteBackend):
            backend.execute(statement, *words)

    return spoil


def replaced(key: str) -> tuple[Spoil, ...]:
    """Return two Redis commands that replace the value of a key by a list."""
    return redis_command("DEL", key), redis_command("LPUSH", key, "x")


ON_REDIS: dict[str, tuple[tuple[Spoil, ...], str, Call]] = {
    f"head: {field}": (
        (redis_command("HSET", "{idn}:log:head", field, "abc"),),
        rf"`{{idn}}:log:head` has .*{field}",
        lambda s: s.facts.deny_token(TokenId("t9"), LATER),
    )
    for field in ("position", "floor", "retention", "kept", "raised")
} | {
    "head: another type": (
        replaced("{idn}:log:head"),
        r"`{idn}:log:head` is not a hash",
        lambda s: s.log.heartbeat("p"),
    ),
    "head: a newer format": (
        (redis_command("HSET", "{idn}:log:head", "format", "3"),),
        r"`{idn}:log:head` has a format .*: run the version that wrote it",
        lambda s: s.log.head(),
    ),
    "head: no format": (
        (redis_command("HDEL", "{idn}:log:head", "format"),),
        r"`{idn}:log:head` has no format",
        lambda s: s.log.head(),
    ),
    "head: no position": (
        (redis_command("HDEL", "{idn}:log:head", "position"),),
        r"`{idn}:log:head` has no number as its position",
        lambda s: s.log.read(0, 10),
    ),
    "head: marks": (
        (redis_command("HSET", "{idn}:log:head", "lifetime", "abc"),),
        r"`{idn}:log:head`",
        lambda s: s.log.head(),
    ),
    "log: another type": (
        replaced("{idn}:log"),
        r"`{idn}:log` is of the type list",
        lambda s: s.log.read(0, 10),
    ),
    "log: another type, written": (
        replaced("{idn}:log"),
        r"`{idn}:log` is of the type list",
        lambda s: s.facts.deny_token(TokenId("t9"), LATER),
    ),
    "log: heartbeat": (replaced("{idn}:log"), r"`{idn}:log` is not a stream", lambda s: s.log.heartbeat("p")),
    "log: a foreign entry": (
        (redis_command("XADD", "{idn}:log", "17-0", "foo", "bar"),),
        r"`{idn}:log entry 17-0` is not one that this version knows",
        lambda s: s.log.read(0, 100),
    ),
    "log: a change that is no JSON": (
        (redis_command("XADD", "{idn}:log", "17-0", "link", "l", "prev", "p", "time", "1", "change", "{"),),
        r"`{idn}:log entry 17-0`",
        lambda s: s.log.read_entries(0, 100),
    ),
    "log: an unknown kind": (
        (
            redis_command(
                "XADD", "{idn}:log", "17-0", "link", "l", "prev", "p", "time", "1", "change", '{"k":"x"}'
            ),
        ),
        r"`{idn}:log entry 17-0`",
        lambda s: s.log.read(0, 100),
    ),
    "denial: another type": (
        replaced("{idn}:deny:t1"),
        r"`{idn}:deny:t1` is not a string",
        lambda s: s.facts.deny_token(TokenId("t1"), LATER),
    ),
    "denial: another text": (
        (redis_command("SET", "{idn}:deny:t1", "whatever"),),
        r"`{idn}:deny:t1` has no number as its end",
        lambda s: s.facts.deny_token(TokenId("t1"), LATER),
    ),
    "end: another text": (
        (redis_command("SET", "{idn}:ended:s1", "x y z w"),),
        r"`{idn}:ended:s1` has no number",
        lambda s: s.facts.end_session(SessionId("s1"), deny_until=LATER, end_until=LATER),
    ),
    "end: another text, read": (
        (redis_command("SET", "{idn}:ended:s2", "whatever"),),
        r"`idn:s:{s2} or {idn}:ended:s2`",
        lambda s: s.sessions.read(SessionId("s2")),
    ),
    "end: another type, read": (
        replaced("{idn}:ended:s1"),
        r"`{idn}:ended:s1` is of the type list",
        lambda s: s.sessions.read(SessionId("s1")),
    ),
    "generations: another type": (
        replaced("{idn}:gen"),
        r"`{idn}:gen` is not a hash",
        lambda s: s.facts.raise_generation(PrincipalId("alice"), above=0, request_id=None),
    ),
    "generations: another type, read": (
        replaced("{idn}:gen"),
        r"`{idn}:gen` is of the type list",
        lambda s: s.log.generations(),
    ),
    "generations: another text": (
        (redis_command("HSET", "{idn}:gen", "alice", "x"),),
        r"`{idn}:gen`",
        lambda s: s.log.generations(),
    ),
    "generations: another text, raised": (
        (redis_command("HSET", "{idn}:gen", "billing", "x"),),
        r"`{idn}:gen` has no generation for billing",
        lambda s: s.records.update(a_client("billing"), expected=etag(s), revoke=True),
    ),
    "record: no JSON": (
        (redis_command("HSET", "{idn}:client:billing", "value", "{"),),
        r"`{idn}:client:billing`",
        lambda s: s.records.get(Client, "billing"),
    ),
    "record: another type": (
        replaced("{idn}:client:billing"),
        r"`{idn}:client:billing` is of the type list",
        lambda s: s.records.get(Client, "billing"),
    ),
    "used: another type": (
        replaced("{idn}:used:jti"),
        r"`{idn}:used:jti` is of the type list",
        lambda s: s.single_use.consume("jti", LATER),
    ),
}
ON_SQLITE: dict[str, tuple[tuple[Spoil, ...], str, Call]] = {
    "head": ((sql("UPDATE log_head SET position = 'abc'"),), "`log_head`", lambda s: s.log.head()),
    "head: marks": (
        (sql("UPDATE log_head SET lifetime = 'abc'"),),
        "`log_head`",
        lambda s: s.log.heartbeat("p"),
    ),
    "log: no JSON": (
        (sql("UPDATE log SET change = '{' WHERE position = 2"),),
        "`log, position 2`",
        lambda s: s.log.read(0, 10),
    ),
    "log: an unknown kind": (
        (sql("UPDATE log SET change = ? WHERE position = 2", '{"k":"x"}'),),
        "`log, position 2`",
        lambda s: s.log.read_entries(0, 10),
    ),
    "generations": (
        (sql("UPDATE generations SET number = 'abc'"),),
        "`generations, alice`",
        lambda s: s.log.generations(),
    ),
    "record": (
        (sql("UPDATE records SET value = '{'"),),
        "`records, client",
        lambda s: s.records.get(Client, "billing"),
    ),
    "session": (
        (sql("UPDATE sessions SET value = '{'"),),
        "`sessions`",
        lambda s: s.sessions.read(SessionId("s1")),
    ),
}


def fill(store: Store) -> None:
    store.records.create(a_client("billing"))
    for session_id in ("s1", "s2"):
        store.sessions.create(a_session(session_id))
    store.facts.deny_token(TokenId("t1"), LATER)
    store.facts.end_session(SessionId("s1"), deny_until=LATER, end_until=MUCH_LATER)
    store.facts.raise_generation(PrincipalId("alice"), above=0, request_id=None)


def etag(store: Store) -> Revision:
    found = store.records.get(Client, "billing")
    assert found is not None
    return found.revision


CASES = [
    pytest.param(kind, case, id=f"{kind}-{name}")
    for kind, cases in (("redis", ON_REDIS), ("cluster", ON_REDIS), ("sqlite", ON_SQLITE))
    for name, case in cases.items()
]


@pytest.mark.parametrize(("backend", "case"), CASES, indirect=["backend"])
def test_damage_is_an_error_that_names_the_key(
    store: Store, backend: Backend, case: tuple[tuple[Spoil, ...], str, Call]
) -> None:
    spoils, message, call = case
    fill(store)
    for spoil in spoils:
        spoil(backend)

    with pytest.raises(StoreDamagedError, match=message) as error:
        call(store)
    assert "restore a backup" in str(error.value) or "run the version" in str(error.value)


def test_a_foreign_entry_makes_a_process_stale_until_it_is_removed(store: Store, backend: Backend) -> None:
    fill(store)
    _, replica, event_log = follow(backend)
    foreign = store.log.head().position + 1
    redis_command("XADD", "{idn}:log", f"{foreign}-0", "foo", "bar")(backend)
    sql(
        "INSERT INTO log (position, link, previous_link, time, change) VALUES (?, 'l', 'p', 0, '{')", foreign
    )(backend)
    for _ in range(3):
        with pytest.raises(StoreDamagedError, match=f"{foreign}"):
            replica.catch_up()
    with pytest.raises(StoreDamagedError):
        follow(backend)

    backend.remove_entries(foreign, foreign)
    for _ in range(2):
        replica.heartbeat("p")
        replica.maintenance.do()
    assert replica.is_fresh()
    assert {"t1", "s1"} <= {id_ for id_, _ in replica.revocations.denylist.items()}
    assert len(event_log.named("log_replaced")) <= 1
    assert follow(backend)[1].is_fresh()
