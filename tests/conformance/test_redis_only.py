"""Promises of the Redis store alone: its keys, its scripts, and the problems that it finds in a server."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from identity_service.domain.errors import AlreadyExistsError, StoreUnavailableError
from identity_service.domain.ids import EVERYONE, Epoch, PrincipalId, SessionId, TokenId, new_epoch
from identity_service.domain.log import Appended, RecordKind, Revision, TokenDenied
from identity_service.domain.principals import User, first_party_client
from identity_service.domain.store import Store
from identity_service.storage.redis import RedisStore
from identity_service.storage.redis.client.server_checks import Demands
from tests.conformance import samples
from tests.redis_server import RedisServer, ask

DAY = 86_400


@pytest.fixture
def store(redis_store: RedisStore) -> RedisStore:
    return redis_store


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def lines(server: RedisServer, command: str) -> list[str]:
    return sorted(
        line for line in ask(server.port, f"{command}\r\n".encode()).decode().split("\r\n") if "idn" in line
    )


def test_the_keys_are_those_of_the_documentation(server: RedisServer, store: RedisStore) -> None:
    store.facts.deny_token(TokenId("t1"), soon())
    store.facts.end_session(SessionId("s1"), deny_until=soon(), end_until=soon())
    store.facts.raise_generation(EVERYONE, above=0, request_id="r1")
    store.records.create(first_party_client())
    store.records.create(samples.a_user())
    store.sessions.create(replace(samples.a_session(expire_time=soon()), session_id=SessionId("s2")))
    store.log.heartbeat("p1")

    found = lines(server, "KEYS *")

    expected = ["deny:t1", "ended:s1", "gen", "log:head", "head", "log", "client:first-party", "index:client"]
    assert {f"{{idn}}:{name}" for name in expected} <= set(found)
    assert {"{idn}:usernames", "{idn}:index:user", "{idn}:beat:p1", "{idn}:request:r1"} <= set(found)
    assert {"{idn}:sessions:u_1", "{idn}:sessions:billing"} <= set(found)
    assert "idn:s:{s2}" in found


def test_a_denial_is_deleted_by_itself_a_day_after_it_ended(server: RedisServer, store: RedisStore) -> None:
    until = soon()
    store.facts.deny_token(TokenId("t1"), until)

    seconds = ask(server.port, b"EXPIRETIME {idn}:deny:t1\r\n")

    assert 0 <= int(seconds.strip().lstrip(b":")) - until.timestamp() - DAY <= 1


FACTS: dict[str, Callable[[Store], Appended]] = {
    "a denial": lambda s: s.facts.deny_token(TokenId("t1"), samples.LATER),
    "the end of a session": lambda s: s.facts.end_session(
        SessionId("s1"), deny_until=samples.LATER, end_until=samples.MUCH_LATER
    ),
}


@pytest.mark.parametrize("state", FACTS.values(), ids=FACTS.keys())
def test_state_of_another_epoch_is_no_proof_and_is_put_into_the_log_again(
    server: RedisServer, store: RedisStore, state: Callable[[Store], Appended]
) -> None:
    """A store that trusted old state would acknowledge a revocation that the new log does not contain."""
    state(store)
    ask(server.port, b"DEL {idn}:log\r\n")
    ask(server.port, b"HSET {idn}:log:head epoch second position 0\r\n")
    store.log.adopt(Epoch("second"))

    again = state(store)

    (entry,) = store.log.read(0, 10).entries
    assert again.changes == ((entry.change, entry.link),)
    assert again.revision == Revision(epoch=Epoch("second"), position=1, link=entry.link)


@pytest.mark.parametrize("name", ["a denial", "the end of a session"])
def test_a_fact_whose_entry_was_deleted_from_the_log_is_appended_again(
    server: RedisServer, store: RedisStore, name: str
) -> None:
    FACTS[name](store)
    samples.deny(store)
    ask(server.port, b"XDEL {idn}:log 1-0\r\n")

    again = FACTS[name](store)

    assert again.revision.position == 3
    assert store.log.read(2, 1).entries[0].change == again.changes[0][0]


def test_a_longer_state_that_lost_its_entry_is_appended_in_full(
    server: RedisServer, store: RedisStore
) -> None:
    """A denial is never shortened: the entry appended again has the later time, which the state holds."""
    store.facts.deny_token(TokenId("t1"), samples.MUCH_LATER)
    ask(server.port, b"XDEL {idn}:log 1-0\r\n")

    again = store.facts.deny_token(TokenId("t1"), samples.LATER)

    assert again.revision.position == 2
    assert again.changes == store.facts.deny_token(TokenId("t1"), samples.MUCH_LATER).changes
    assert store.log.read(1, 1).entries[0].change == again.changes[0][0]


def test_request_id_and_principal_are_distinct_parts_of_a_key(store: RedisStore) -> None:
    """Both may contain a colon, so a key of the two joined by a colon would be ambiguous."""
    store.facts.raise_generation(PrincipalId("a:b"), above=0, request_id="c")
    store.facts.raise_generation(PrincipalId("a"), above=0, request_id="b:c")

    assert set(store.log.generations()) == {"a:b", "a"}


def test_a_raise_without_a_request_id_is_remembered_for_a_minute_only(
    server: RedisServer, store: RedisStore
) -> None:
    store.facts.raise_generation(EVERYONE, above=0, request_id=None)

    (key,) = [line for line in lines(server, "KEYS {idn}:request:*") if "call/" in line]
    seconds = ask(server.port, f"TTL {key}\r\n".encode())
    assert 0 < int(seconds.strip().lstrip(b":")) <= 60


WRITES: dict[str, Callable[[Store], object]] = {
    "create": lambda s: s.records.create(samples.a_user("u_2", "bob"), audit=samples.an_event()),
    "delete": lambda s: s.records.delete(RecordKind.USER, "u_1", audit=samples.an_event()),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_script_that_cannot_append_has_changed_nothing(
    server: RedisServer, store: RedisStore, write: Callable[[Store], object]
) -> None:
    """Redis does not roll back a script.

    Here XADD fails within the script, since the head is behind its log.
    """
    store.records.create(samples.a_user("u_1", "alice"))
    ask(server.port, b"HSET {idn}:log:head position 0\r\n")

    with pytest.raises(StoreUnavailableError):
        write(store)

    assert [found.record.id for found in store.records.list_of(User)] == ["u_1"]
    assert store.records.find_user("alice") is not None
    assert ask(server.port, b"HLEN {idn}:usernames\r\n") == b":1\r\n"
    assert store.audit.read_after("", 10) == []
    ask(server.port, b"HSET {idn}:log:head position 1\r\n")
    write(store)


def test_a_log_that_lost_its_epoch_is_not_taken_for_an_uninitialised_store(
    server: RedisServer, store: RedisStore
) -> None:
    store.facts.deny_token(TokenId("t1"), soon())
    ask(server.port, b"DEL {idn}:log:head\r\n")

    with pytest.raises(AlreadyExistsError, match="lost its epoch"):
        store.initialise(new_epoch())


def test_every_key_with_an_end_is_deleted_a_day_after_it(server: RedisServer, store: RedisStore) -> None:
    """The day protects valid keys from a server clock that is ahead; scripts compare times anyway."""
    end = soon()
    store.sessions.create(samples.a_session("s1", expire_time=end))
    assert store.sessions.replace(samples.a_session("s1", expire_time=end), expected_version=1)
    store.facts.end_session(SessionId("s2"), deny_until=end, end_until=end + timedelta(minutes=1))
    store.single_use.consume("jti", end)

    ends = {"idn:s:{s1}": 0, "{idn}:sessions:u_1": 0, "{idn}:used:jti": 0, "{idn}:ended:s2": 60}
    for key, later in ends.items():
        seconds = ask(server.port, f"EXPIRETIME {key}\r\n".encode())
        assert 0 <= int(seconds.strip().lstrip(b":")) - end.timestamp() - later - DAY <= 1, key


def test_a_request_is_forgotten_a_day_after_its_day(server: RedisServer, store: RedisStore) -> None:
    store.facts.raise_generation(EVERYONE, above=0, request_id="r1")
    seconds = int(ask(server.port, b"TTL {idn}:request:r1\r\n").strip().lstrip(b":"))
    assert 2 * DAY - 60 <= seconds <= 2 * DAY


def test_scripts_are_loaded_again_after_they_were_flushed(server: RedisServer, store: RedisStore) -> None:
    ask(server.port, b"SCRIPT FLUSH\r\n")

    assert store.facts.deny_token(TokenId("t1"), soon()).revision.position == 1


def test_a_server_that_is_set_up_well_has_nothing_to_find(store: RedisStore) -> None:
    assert store.check(Demands(durability="local")) == []


@pytest.mark.parametrize(
    ("name", "value", "durability", "severity", "fix"),
    [
        ("appendfsync", "no", "local", "refuse", "CONFIG SET appendfsync always"),
        ("appendonly", "no", "local", "refuse", "CONFIG SET appendonly yes"),
        ("no-appendfsync-on-rewrite", "yes", "local", "refuse", "CONFIG SET no-appendfsync-on-rewrite no"),
        ("maxmemory-policy", "allkeys-lru", "local", "refuse", "CONFIG SET maxmemory-policy noeviction"),
        ("maxmemory-policy", "volatile-ttl", "unsynced", "refuse", "noeviction"),
    ],
)
def test_a_server_with_an_unsafe_setting_is_refused_with_a_fix(
    server: RedisServer, store: RedisStore, name: str, value: str, durability: str, severity: str, fix: str
) -> None:
    server.configure(name, value)

    (finding,) = store.check(Demands(durability=durability))

    assert finding.severity == severity
    assert fix in finding.fix


def test_eviction_may_be_allowed_and_is_still_mentioned(server: RedisServer, store: RedisStore) -> None:
    server.configure("maxmemory-policy", "allkeys-lru")

    (finding,) = store.check(Demands(durability="local", allow_unsafe=True))

    assert finding.severity == "warn"


def test_a_server_that_keeps_nothing_is_mentioned_when_unsynced(
    server: RedisServer, store: RedisStore
) -> None:
    server.configure("appendonly", "no")
    server.configure("save", '""')

    (finding,) = store.check(Demands(durability="unsynced"))

    assert finding.severity == "warn"
    assert "nothing on disk" in finding.what


@pytest.mark.parametrize(("unchecked", "severity"), [(False, "refuse"), (True, "warn")])
def test_a_server_that_hides_its_set_up_is_refused_unless_the_operator_vouches_for_it(
    server: RedisServer, store: RedisStore, unchecked: bool, severity: str
) -> None:
    ask(server.port, b"ACL SETUSER guarded on >pw ~* &* +@all -config\r\n")
    guarded = RedisStore.connect(f"redis://guarded:pw@127.0.0.1:{server.port}/0")

    (finding,) = guarded.check(Demands(durability="local", config_unchecked=unchecked))
    guarded.close()

    assert finding.severity == severity
    assert "CONFIG" in finding.what


def test_a_server_that_hides_its_configuration_still_shows_that_it_evicts(
    server: RedisServer, store: RedisStore
) -> None:
    server.configure("maxmemory-policy", "allkeys-lru")
    ask(server.port, b"ACL SETUSER guarded on >pw ~* &* +@all -config\r\n")
    guarded = RedisStore.connect(f"redis://guarded:pw@127.0.0.1:{server.port}/0")

    refused, _ = guarded.check(Demands(durability="local"))
    guarded.close()

    assert refused.severity == "refuse"
    assert "allkeys-lru" in refused.what


def test_an_unreachable_server_is_not_taken_for_one_that_hides_its_configuration(
    server: RedisServer, store: RedisStore
) -> None:
    server.kill()

    with pytest.raises(StoreUnavailableError):
        store.check(Demands(durability="local"))


def test_a_raise_that_the_table_of_generations_holds_is_not_made_again_under_a_new_epoch(
    server: RedisServer, store: RedisStore
) -> None:
    first = store.facts.raise_generation(EVERYONE, above=0, request_id="r1")
    samples.deny(store, 2)
    store.log.renew(store.log.head().epoch, Epoch("second"))
    store.log.adopt(Epoch("second"))

    again = store.facts.raise_generation(EVERYONE, above=0, request_id="r1")

    assert again.changes == first.changes
    assert again.revision == store.log.head().revision
    assert store.log.head().position == 3


def test_a_foreign_entry_that_was_added_and_removed_stops_no_write(
    server: RedisServer, store: RedisStore
) -> None:
    """The stream refuses ids below the foreign one, so the log gets a new epoch that begins after it."""
    store.facts.deny_token(TokenId("t1"), samples.LATER)
    answer = ask(server.port, b"XADD {idn}:log * x y\r\n")
    id_ = answer.split(b"\r\n")[1]
    ask(server.port, b"XDEL {idn}:log " + id_ + b"\r\n")

    head = store.log.heartbeat("p")
    assert not head.whole
    store.log.adopt(store.log.renew(head.epoch, new_epoch()))
    assert store.log.heartbeat("p").whole
    store.facts.deny_token(TokenId("t2"), samples.LATER)
    assert [entry.change for entry in store.log.read(0, 10).entries] == [
        TokenDenied(token_id=TokenId(name), deny_until=samples.LATER) for name in ("t1", "t2")
    ]
