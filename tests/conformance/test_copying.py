"""Copying a store: the whole source is read while processes use it; the target gets everything or nothing."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from identity_service.domain.errors import (
    AlreadyExistsError,
    StaleEtagError,
    StoreDamagedError,
    StoreUninitializedError,
)
from identity_service.domain.ids import EVERYONE, Epoch, SessionId, new_epoch
from identity_service.domain.log import (
    RecordKind,
)
from identity_service.domain.principals import Client, User
from identity_service.domain.store import Store
from tests.conformance import samples
from tests.conformance.backends import Backend, ClusterBackend, RedisBackend, SqliteBackend
from tests.conformance.copies import FENCE, RETENTION, Held, exported, fill
from tests.conformance.replicas import follow
from tests.conformance.samples import LATER, deny
from tests.redis_server import RedisServer

DIRECTIONS = [
    (source, target)
    for source in ("sqlite", "redis", "cluster")
    for target in ("sqlite", "redis", "cluster")
    if (source, target) != ("cluster", "cluster")
]


@pytest.fixture(scope="module")
def second_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("second-redis"))
    server.start()
    yield server
    server.stop()


def make_backend(kind: str, request: pytest.FixtureRequest, directory: Path, server: str) -> Backend:
    if kind == "sqlite":
        directory.mkdir()
        return SqliteBackend(directory)
    if kind == "redis":
        return RedisBackend(request.getfixturevalue(server))
    return ClusterBackend(request.getfixturevalue("redis_cluster"))


@pytest.fixture(params=DIRECTIONS, ids=lambda pair: "-to-".join(pair))
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Backend, Backend]]:
    """A source and a target of a copy, for each combination of kinds that is tested."""
    source, target = request.param
    with ExitStack() as stack:
        made = []
        for kind, name, server in ((source, "from", "redis_server"), (target, "to", "second_redis")):
            made.append(make_backend(kind, request, tmp_path / name, server))
            stack.callback(made[-1].close)
        yield made[0], made[1]


def copy(source: Store, target: Store, *, whole: bool = True) -> Epoch:
    """Copy all items into the target, then rebuild its log, as the restore and migrate commands do."""
    epoch = new_epoch()
    with source.copying.export(whole=whole) as (_, items):
        target.copying.write_copy(items, epoch, replace=False)
    target.log.adopt(epoch)
    target.log.rebuild()
    return epoch


def test_everything_comes_back_equal(both: tuple[Backend, Backend]) -> None:
    source, target = both[0].open(), both[1].open()
    source.initialise(new_epoch())
    fill(source)
    assert target.copying.is_empty()

    epoch = copy(source, target)

    assert Held(target) == Held(source)
    assert exported(target).state == exported(source).state
    head = both[1].open().log.head()
    assert (head.epoch, head.whole, head.complete, head.floor) == (epoch, True, True, 0)
    assert (head.marks, head.retention) == (source.log.head().marks, RETENTION)
    held = Held(target)
    assert len(held.denials) == 5
    assert held.ends.keys() == {"s-ended", "s-never-seen"}
    assert held.generations[EVERYONE].number == 2
    assert [e.target for _, e in held.events] == ["first", "second", "third", "fourth"]
    assert [s.session_id for s in held.sessions["u_1"]] == ["s-alive"]
    assert {user.record.username for user in target.records.list_of(User)} == {"alice", "robert"}


def test_the_copy_serves_as_the_source_did(both: tuple[Backend, Backend]) -> None:
    source, target = both[0].open(), both[1].open()
    source.initialise(new_epoch())
    fill(source)
    copy(source, target)

    _, replica, event_log = follow(both[1])
    known = replica.revocations
    assert {f't{number} "\N{SNOWMAN}\\' for number in range(5)} <= {id_ for id_, _ in known.denylist.items()}
    assert known.generations == source.log.generations()
    assert not event_log.events, "nothing is missing, and nothing is repaired"
    store = both[1].open()
    state, before = (which.sessions.read(SessionId("s-alive")) for which in (store, source))
    assert state is not None
    assert before is not None
    assert (state.session, state.ended, state.generations) == (before.session, False, before.generations)
    assert store.sessions.replace(state.session, expected_version=state.version)
    assert store.sessions.read(SessionId("s-ended")) is None
    assert not store.single_use.consume("jti-1", LATER)
    assert store.single_use.consume("jti-2", LATER)
    for name, there in (("alice", True), ("robert", True), ("bob", False), ("gone", False)):
        assert (store.records.find_user(name) is not None) is there
    client = store.records.find_client("dns:billing.example")
    assert client is not None
    again = store.records.update(client.record, expected=client.revision)
    with pytest.raises(StaleEtagError):
        store.records.update(client.record, expected=client.revision)
    store.records.update(client.record, expected=again.revision)
    with pytest.raises(AlreadyExistsError):
        store.records.create(samples.a_user("u_9", "ROBERT"))
    store.records.delete(RecordKind.USER, "u_2")
    assert (
        store.records.create(samples.a_user("u_9", "ROBERT")).revision.position == store.log.head().position
    )
    assert store.records.list_of(Client)


def test_a_backup_has_no_sessions_and_no_audit_events(store: Store) -> None:
    fill(store)
    kinds = exported(store, whole=False).kinds
    assert not kinds["CopiedSession"]
    assert not kinds["CopiedEvent"]
    assert kinds["CopiedRecord"] >= 5


def test_a_session_that_ended_is_in_no_copy(store: Store) -> None:
    fill(store)
    assert exported(store).sessions.keys() == {"s-alive", "s-of-bob"}


def test_a_store_without_a_head_cannot_be_copied(backend: Backend) -> None:
    store = backend.open()
    with pytest.raises(StoreUninitializedError), store.copying.export(whole=True):
        pass
    with pytest.raises(StoreUninitializedError):
        store.copying.fenced()


def test_a_store_that_lost_entries_is_not_copied(store: Store, backend: Backend) -> None:
    deny(store, 5)
    backend.remove_entries(2, 3)
    with pytest.raises(StoreDamagedError, match="start the service"), store.copying.export(whole=False):
        pass
    store.log.renew(store.log.head().epoch, new_epoch())
    with pytest.raises(StoreDamagedError, match="start the service"), store.copying.export(whole=False):
        pass
    store.log.adopt(store.log.head().epoch)
    store.log.rebuild()
    assert len(exported(store).denials) == 5


def test_a_denial_that_only_the_log_contains_is_copied(both: tuple[Backend, Backend]) -> None:
    """A store clock that was a day ahead for a moment deletes denials from the state, but not from the log.

    Processes answer by the log, so that the copy must contain these denials as well.
    """
    source, target = both[0].open(), both[1].open()
    source.initialise(new_epoch())
    source.sessions.create(samples.a_session("s-ended"))
    deny(source, 3)
    source.facts.end_session(SessionId("s-ended"), deny_until=LATER, end_until=LATER)
    held = exported(source)
    for token_id in held.denials:
        both[0].forget_denial(token_id)
    both[0].forget_end(SessionId("s-ended"))

    copy(source, target)

    copied = Held(target)
    assert (copied.denials, copied.ends) == (held.denials, held.ends)
    assert len(copied.denials) == 3


def test_a_fence_is_lifted_by_the_one_that_it_belongs_to(store: Store, backend: Backend) -> None:
    later = replace(FENCE, epoch=Epoch("e-later"))
    store.copying.fence(later)
    assert not backend.open().copying.lift_fence(FENCE)
    assert store.copying.fenced() == later
    assert backend.open().copying.lift_fence(later)
    assert not backend.open().copying.lift_fence(later)
    assert store.copying.fenced() is None


def test_a_session_that_ended_is_not_copied_though_its_record_or_its_end_is_lost(
    store: Store, backend: Backend
) -> None:
    """Either the mark in the session's record or its stored end is sufficient to leave the session out."""
    for name in ("s-alive", "s-marked"):
        store.sessions.create(samples.a_session(name))
    for name in ("s-marked", "s-not-marked"):
        store.facts.end_session(SessionId(name), deny_until=LATER, end_until=samples.MUCH_LATER)
    store.sessions.create(samples.a_session("s-not-marked"))
    backend.forget_end(SessionId("s-marked"))
    assert exported(store).sessions.keys() == {"s-alive"}
