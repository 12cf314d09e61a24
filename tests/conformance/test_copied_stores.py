"""Backup, restore and migration on real stores of every kind: the copy has the content of the original."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from identity_service.domain.audit import AuditFilter, AuditType
from identity_service.domain.errors import (
    AlreadyExistsError,
    ConfigurationError,
    StoreFencedError,
    StoreUnavailableError,
)
from identity_service.domain.ids import EVERYONE, PrincipalId, key_principal, new_epoch
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.keys import KeyPolicy, KeyPurpose, StoredKey
from identity_service.domain.log import Marks, SessionEnded, TokenDenied
from identity_service.domain.principals import Client, User
from identity_service.domain.records import Record
from identity_service.domain.secret import Secret
from identity_service.domain.store import Store, all_records
from identity_service.jose.sealing import Sealer
from identity_service.jose.vault import Vault
from identity_service.services.backup import back_up
from identity_service.services.migrate import Migration, Place
from identity_service.services.restore import Restore, RestoreConfig, Restored, require_openable
from identity_service.storage.backup_file import NewBackup, OpenBackup
from identity_service.storage.redis import RedisStore
from identity_service.storage.sqlite import SqliteStore
from identity_service.storage.upgrade import require_stopped
from tests.conformance.samples import (
    LATER,
    MUCH_LATER,
    a_client,
    a_session,
    a_user,
    an_event,
    an_issuer,
    deny,
    entries_of,
)
from tests.fakes.clocks import FakeClock

SEALER: Final = Sealer(Secret("the master key of these tests, long enough"))
VAULT: Final = Vault(SEALER)
POLICY: Final = KeyPolicy(
    rotate_every=timedelta(days=30),
    publish_before=timedelta(hours=1),
    lifetimes=dict.fromkeys(KeyPurpose, timedelta(days=1)),
)
KINDS: Final = ("sqlite", "redis", "cluster")
ONE_CLUSTER: Final = ("cluster", "cluster")
"""A pair that the tests leave out: the test run has one cluster, so it cannot be copied to another one."""
_WATCHED: Final = 0.2


@dataclass(kw_only=True)
class Stores:
    """A factory of empty stores. Stores on Redis are different databases of one server."""

    request: pytest.FixtureRequest
    folder: Path
    stack: ExitStack
    clock: FakeClock
    made: int = 0

    def new(self, kind: str) -> Store:
        self.made += 1
        store: Store
        if kind == "sqlite":
            store = SqliteStore.open(str(self.folder / f"{self.made}.db"), clock=self.clock)
        else:
            store = RedisStore.connect(self._url(kind), clock=self.clock)
        self.stack.callback(store.close)
        return store

    def _url(self, kind: str) -> str:
        if kind == "redis":
            server = self.request.getfixturevalue("redis_server")
            if self.made == 1:
                server.flush()
            return f"redis://127.0.0.1:{server.port}/{self.made}"
        group = self.request.getfixturevalue("redis_cluster")
        for server in group.servers:
            server.flush()
        url: str = group.url
        return url


@pytest.fixture
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    with ExitStack() as stack:
        redis_server = request.getfixturevalue("redis_server")
        redis_server.flush()
        yield Stores(request=request, folder=tmp_path, stack=stack, clock=FakeClock())


def filled(store: Store, clock: FakeClock) -> Store:
    """Initialise the store, and fill it with an item of every kind that a store holds."""
    store.initialise(new_epoch())
    for purpose, algorithm in ((KeyPurpose.SIGN, "ES256"), (KeyPurpose.REFRESH, "HS256")):
        store.records.create(VAULT.make(purpose, algorithm, clock.now()))
    records: tuple[Record, ...] = (
        a_client("one", disabled=False),
        a_client("two", disabled=False),
        a_user("u_1", "alice", disabled=False),
        an_issuer(),
    )
    for record in records:
        store.records.create(record)
    deny(store, 7)
    for _ in range(4):
        store.facts.raise_generation(EVERYONE, above=0, request_id=None)
    store.facts.raise_generation(PrincipalId("one"), above=0, request_id=None)
    for sid in ("sid-1", "sid-2"):
        store.sessions.create(a_session(sid, generations=store.log.generations()))
    store.facts.end_session(a_session("sid-2").session_id, deny_until=LATER, end_until=MUCH_LATER)
    assert [found.session_id for found in store.sessions.list_of(PrincipalId("u_1"))] == ["sid-1"]
    assert store.single_use.consume("used", LATER)
    store.audit.append([an_event("before")])
    store.log.heartbeat("gone", timedelta(hours=3), marks=Marks(lifetime=timedelta(hours=2)))
    clock.advance(timedelta(seconds=5))
    return store


def records_in(store: Store) -> dict[tuple[str, str], Record]:
    kinds: tuple[type[Any], ...] = (Client, User, StoredKey, TrustedIssuer)
    return {
        (kind.__name__, found.record.id): found.record
        for kind in kinds
        for found in all_records(store.records, kind)
    }


def facts_in(store: Store) -> set[TokenDenied | SessionEnded]:
    """Return the denials and the ends of sessions in the log of the store."""
    changes = [entry.change for entry in entries_of(store)]
    return {change for change in changes if isinstance(change, TokenDenied | SessionEnded)}


def backed_up(store: Store, path: Path) -> Path:
    writer = NewBackup(path, SEALER)
    back_up(
        store.copying,
        writer,
        check_key=lambda key: require_openable(VAULT, key),
        issuer="issuer",
        version="1",
    )
    return path


def restored(store: Store, path: Path, clock: FakeClock, *, replace: bool = False) -> Restored:
    with OpenBackup.open(path, SEALER) as reader:
        use_case = Restore(
            store,
            reader,
            VAULT,
            clock,
            RestoreConfig(algorithm="ES256", policy=POLICY),
            lambda: require_stopped(
                lambda: {heartbeat.process: heartbeat.time for heartbeat in store.log.heartbeats()},
                lambda process: f"{process} serves",
                watched=_WATCHED,
            ),
        )
        return use_case.run(use_case.prepare(replace=replace))


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("from_", KINDS)
def test_a_backup_of_any_store_is_restored_into_any_other(stores: Stores, from_: str, to: str) -> None:
    source = filled(stores.new(from_), stores.clock)
    records, facts, generations = records_in(source), facts_in(source), source.log.generations()
    signing = next(record for record in records.values() if isinstance(record, StoredKey))
    path = backed_up(source, stores.folder / "it.backup")
    target = stores.new(to)

    done = restored(target, path, stores.clock)

    now = records_in(target)
    assert {key: now[key] for key in records} == records
    assert {type(record) for key, record in now.items() if key not in records} == {StoredKey}
    assert facts_in(target) == facts
    found = target.log.generations()
    assert found[EVERYONE].number == generations[EVERYONE].number + 1
    assert found[PrincipalId("one")] == generations[PrincipalId("one")]
    sign_keys = [r for r in records.values() if isinstance(r, StoredKey) and r.purpose is KeyPurpose.SIGN]
    assert [key_principal(key.key_id) in found for key in sign_keys] == [True]
    assert signing.key_id in {key.key_id for key in now.values() if isinstance(key, StoredKey)}
    assert target.sessions.read(a_session("sid-1").session_id) is None
    assert target.sessions.list_of(PrincipalId("u_1")) == []
    assert not target.single_use.consume("used", LATER), "what was used stays used"
    assert target.records.find_user("ALICE") is not None
    head = target.log.head()
    assert (head.complete, head.whole) == (True, True)
    assert (head.retention, head.marks.lifetime) == (timedelta(hours=3), timedelta(hours=2))
    events, _ = target.audit.list_newest(AuditFilter(types=(AuditType.STORE_RESTORED,)))
    assert [event.event.details["revision"] for event in events] == [done.manifest.revision]
    target.facts.deny_token(deny(target)[0], LATER)  # it takes writes


@pytest.mark.parametrize("kind", KINDS)
def test_a_replaced_store_leaves_nothing_but_its_generations(stores: Stores, kind: str) -> None:
    store = filled(stores.new(kind), stores.clock)
    path = backed_up(store, stores.folder / "it.backup")
    later = deny(store, 3)
    store.records.create(a_client("later", certificates=frozenset()))
    store.facts.raise_generation(PrincipalId("two"), above=8, request_id=None)
    store.facts.raise_generation(EVERYONE, above=20, request_id=None)

    done = restored(store, path, stores.clock, replace=True)

    assert store.records.get(Client, "later") is None
    assert not {fact.token_id for fact in facts_in(store) if isinstance(fact, TokenDenied)} & set(later)
    found = store.log.generations()
    assert (found[PrincipalId("two")].number, found[EVERYONE].number) == (9, 22)
    assert store.sessions.read(a_session("sid-1").session_id) is None
    assert done.regained is not None
    assert done.regained.enabled.count == 0


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_touched_unless_it_is_wanted(stores: Stores, kind: str) -> None:
    store = filled(stores.new(kind), stores.clock)
    path = backed_up(store, stores.folder / "it.backup")
    head = store.log.head()
    with pytest.raises(AlreadyExistsError):
        restored(store, path, stores.clock)
    damaged = stores.folder / "damaged.backup"
    damaged.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ConfigurationError):
        restored(store, damaged, stores.clock, replace=True)
    assert store.log.head() == head


@pytest.mark.parametrize("kind", KINDS)
def test_a_restore_waits_for_no_process_that_has_stopped(stores: Stores, kind: str) -> None:
    store = filled(stores.new(kind), stores.clock)
    path = backed_up(store, stores.folder / "it.backup")
    reads: list[int] = []
    heartbeats = store.log.heartbeats

    def beating() -> Any:
        reads.append(1)
        stores.clock.advance(timedelta(milliseconds=500))
        store.log.heartbeat("alive")
        return heartbeats()

    store.log.heartbeats = beating  # type: ignore[method-assign]
    with pytest.raises(ConfigurationError, match="alive serves"):
        restored(store, path, stores.clock, replace=True)
    store.log.heartbeats = heartbeats  # type: ignore[method-assign]
    restored(store, path, stores.clock, replace=True)


@pytest.mark.parametrize(("from_", "to"), [pair for pair in product(KINDS, KINDS) if pair != ONE_CLUSTER])
def test_any_store_moves_to_any_other(stores: Stores, from_: str, to: str) -> None:
    target = stores.new(to)
    source = filled(stores.new(from_), stores.clock)
    records, facts, generations = records_in(source), facts_in(source), source.log.generations()
    session = source.sessions.read(a_session("sid-1").session_id)
    assert session is not None

    done = a_migration(source, target, stores.clock).run()

    assert records_in(target) == records
    assert facts_in(target) == facts
    assert target.log.generations() == generations
    moved = target.sessions.read(a_session("sid-1").session_id)
    assert moved is not None
    assert (moved.session, moved.ended) == (session.session, False)
    assert [found.session_id for found in target.sessions.list_of(PrincipalId("u_1"))] == ["sid-1"]
    assert not target.single_use.consume("used", LATER)
    events, _ = target.audit.list_newest(AuditFilter())
    assert events[0].event.type is AuditType.STORE_MIGRATED
    assert "before" in [event.event.target for event in events]
    assert (done.counts["sessions"], done.counts["denied_tokens"]) == (1, 7)
    assert target.log.head().epoch != source.log.head().epoch
    for write in WRITES:
        with pytest.raises(StoreFencedError, match="the target"):
            write(source)
    deny(target)
    assert a_migration(source, target, stores.clock).run().was_finished
    with pytest.raises(ConfigurationError, match="taken over"):
        a_migration(source, target, stores.clock).undo()


WRITES: Final[list[Callable[[Store], object]]] = [
    deny,
    lambda store: store.log.heartbeat("p"),
    lambda store: store.single_use.consume("again", LATER),
    lambda store: store.sessions.create(a_session("sid-9")),
    lambda store: store.records.create(a_client("nine", certificates=frozenset())),
    lambda store: store.facts.raise_generation(EVERYONE, above=0, request_id=None),
]


@pytest.mark.parametrize("to", ["sqlite", "redis"])
@pytest.mark.parametrize("from_", ["sqlite", "redis"])
def test_a_move_that_fails_in_the_middle_leaves_both_as_they_were(
    stores: Stores, from_: str, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = stores.new(from_), stores.new(to)
    filled(source, stores.clock)
    before = records_in(source), facts_in(source)
    migration = a_migration(source, target, stores.clock)
    monkeypatch.setattr(
        migration, "_migrated_event", lambda *_: (_ for _ in ()).throw(StoreUnavailableError("lost"))
    )

    with pytest.raises(StoreUnavailableError, match="lost"):
        migration.run()

    assert target.copying.is_empty()
    assert source.copying.fenced() is None
    assert (records_in(source), facts_in(source)) == before
    for write in WRITES:
        write(source)
    assert not a_migration(source, target, stores.clock).run().was_finished


def a_migration(source: Store, target: Store, clock: FakeClock) -> Migration:
    return Migration(Place(store=source, url="the source"), Place(store=target, url="the target"), clock)
