"""A store of version 0.1.0 is upgraded when it is opened; from then on that version is refused.

Version 0.1.0 itself wrote the data: see `data/make.py`.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest
import redis

from identity_service.domain.errors import AlreadyExistsError, ConfigurationError
from identity_service.domain.ids import PrincipalId, SessionId, TokenId, new_epoch
from identity_service.domain.principals import Client, User
from identity_service.domain.store import Store
from tests.conformance.backends import Backend, RedisBackend, SqliteBackend
from tests.conformance.replicas import follow
from tests.conformance.samples import LATER, a_client, a_session, a_user, entries_of
from tests.redis_server import RedisServer

DATA = Path(__file__).parent / "data"


class Old(Protocol):
    """A store that contains the data of version 0.1.0."""

    backend: Backend

    def heartbeat(self, time: float) -> None:
        """Write a heartbeat in the format of version 0.1.0."""

    def lose_entries(self) -> None:
        """Delete three denials from the log, a loss from which version 0.1.0 did not protect."""


class OldFile:
    def __init__(self, backend: SqliteBackend) -> None:
        self.backend = backend
        with closing(sqlite3.connect(backend.path)) as connection:
            connection.executescript((DATA / "v0_1_0.sql").read_text())

    def heartbeat(self, time: float) -> None:
        self.backend.execute("INSERT OR REPLACE INTO beats (process, time) VALUES ('p-old', ?)", time)

    def lose_entries(self) -> None:
        self.backend.remove_entries(4, 6)


class OldKeys:
    def __init__(self, backend: RedisBackend) -> None:
        self.backend = backend
        with backend.client() as client:
            for line in (DATA / "v0_1_0.redis.jsonl").read_text().splitlines():
                client.execute_command(*json.loads(line))

    def heartbeat(self, time: float) -> None:
        with self.backend.client() as client:
            client.set("{idn}:beat:p-old", str(time))

    def lose_entries(self) -> None:
        self.backend.remove_entries(4, 6)


OLD: dict[str, Callable[[pytest.FixtureRequest, Path], OldFile | OldKeys]] = {
    "sqlite": lambda _, directory: OldFile(SqliteBackend(directory)),
    "redis": lambda request, _: OldKeys(RedisBackend(redis_of(request))),
}
REFUSED = (sqlite3.OperationalError, redis.ResponseError)


def redis_of(request: pytest.FixtureRequest) -> RedisServer:
    server: RedisServer = request.getfixturevalue("redis_server")
    return server


@pytest.fixture(params=OLD)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OldFile | OldKeys]:
    old = OLD[request.param](request, tmp_path)
    yield old
    old.backend.close()


def assert_everything_is_there(store: Store) -> None:
    assert store.log.generations().keys() == {"u_1"}
    alive, ended = (store.sessions.read(SessionId(name)) for name in ("s-alive", "s-ended"))
    assert alive is not None
    assert ended is not None
    written = a_session("s-alive", key_sha256=None)  # that version bound no session to a key
    assert (alive.session, alive.ended, ended.ended) == (written, False, True)
    assert store.sessions.replace(alive.session, expected_version=alive.version)
    found = store.records.find_user("alice")
    assert found is not None
    assert found.record == a_user("u_1", "alice")
    store.records.update(found.record, expected=found.revision)
    client = store.records.get(Client, "billing")
    assert client is not None
    assert client.record == a_client("billing")
    assert not store.single_use.consume("jti", LATER)
    with pytest.raises(AlreadyExistsError):
        store.records.create(a_user("u_2", "ALICE"))
    assert len(store.records.list_of(User)) == 1


def test_everything_that_version_0_1_0_wrote_is_there(old: Old) -> None:
    position = len(entries_of(old.backend.open()))
    store, replica, event_log = follow(old.backend)
    known = replica.revocations
    assert {f"t{n}" for n in range(5)} | {"s-ended"} == {id_ for id_, _ in known.denylist.items()}
    assert known.generations.keys() == {"u_1"}
    assert "t9" not in known.denylist
    assert event_log.named("log_rebuilt") == [{"facts": 0}], "that version counted no facts"
    head = old.backend.open().log.head()
    assert (head.epoch, head.position, head.whole, head.complete) == ("e0", position, True, True)
    assert head.marks.lifetime >= timedelta(hours=24)
    assert_everything_is_there(store)
    assert old.backend.open().log.head().whole


def test_facts_that_the_log_of_version_0_1_0_had_lost_are_repaired(old: Old) -> None:
    old.lose_entries()
    _, replica, event_log = follow(old.backend)
    assert {f"t{n}" for n in range(5)} <= {id_ for id_, _ in replica.revocations.denylist.items()}
    assert [event["facts"] for event in event_log.named("log_rebuilt")] == [3, 0], (
        "and once the gap was read over"
    )
    assert old.backend.open().log.head().complete


def test_several_processes_may_open_it_at_once(old: Old) -> None:
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: follow(old.backend), range(3)))
    assert old.backend.open().log.head().complete
    assert_everything_is_there(old.backend.open())


def test_version_0_1_0_is_refused_from_then_on(old: Old) -> None:
    """A process of 0.1.0 that was paused during the upgrade, after its check of the version, fails too."""
    assert old.backend.read_head_as_version_0_1_0()
    store = old.backend.open()
    with pytest.raises(REFUSED, match=r"no such table: head|WRONGTYPE"):
        old.backend.read_head_as_version_0_1_0()
    store.facts.deny_token(TokenId("t9"), LATER)
    store.log.renew(store.log.head().epoch, new_epoch())
    with pytest.raises(REFUSED, match=r"no such table: head|WRONGTYPE"):
        old.backend.read_head_as_version_0_1_0()


def test_a_new_store_is_refused_by_version_0_1_0_too(store: Store, backend: Backend) -> None:
    with pytest.raises(REFUSED, match=r"no such table: head|WRONGTYPE"):
        backend.read_head_as_version_0_1_0()


def test_it_is_not_upgraded_while_a_process_of_version_0_1_0_runs(old: Old) -> None:
    before, stop = old.backend.read_head_as_version_0_1_0(), threading.Event()
    heartbeats = threading.Thread(target=lambda: _heartbeat(old, stop))
    heartbeats.start()
    try:
        with pytest.raises(ConfigurationError, match=r"p-old still writes heartbeats.*stop every process"):
            old.backend.open()
    finally:
        stop.set()
        heartbeats.join()
    assert old.backend.read_head_as_version_0_1_0() == before, "nothing was changed"
    old.backend.open().facts.raise_generation(PrincipalId("u_1"), above=0, request_id=None)


def _heartbeat(old: Old, stop: threading.Event) -> None:
    time = 4_102_444_900.0
    while not stop.wait(0.05):
        time += 0.05
        old.heartbeat(time)
