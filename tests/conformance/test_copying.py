"""A whole store is read while others use it, and written into another store, or not at all."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from identity_service.domain.copying import (
    CopiedGeneration,
    CopiedItem,
    CopiedMarks,
    CopiedRecord,
    CopiedSession,
    CopiedUse,
    CopyableStore,
    RecordGone,
)
from identity_service.domain.errors import (
    AlreadyExistsError,
    CopyUnfinishedError,
    NotFoundError,
    StaleEtagError,
    StoreDamagedError,
    StoreReplacedError,
    StoreUninitializedError,
)
from identity_service.domain.ids import EVERYONE, Epoch, Link, PrincipalId, SessionId, TokenId, new_epoch
from identity_service.domain.log import (
    Generation,
    GenerationRaised,
    Marks,
    RecordKind,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.principals import Client, User
from tests.conformance import samples
from tests.conformance.backends import Backend, ClusterBackend, RedisBackend, SqliteBackend
from tests.conformance.copies import MARKS, RETENTION, Copied, Held, exported, fill
from tests.conformance.samples import LATER, MUCH_LATER, deny
from tests.conformance.test_repair import follow
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
    """A place to copy from, and one to copy to."""
    source, target = request.param
    with ExitStack() as stack:
        made = []
        for kind, name, server in ((source, "from", "redis_server"), (target, "to", "second_redis")):
            made.append(make_backend(kind, request, tmp_path / name, server))
            stack.callback(made[-1].close)
        yield made[0], made[1]


def copy(source: CopyableStore, target: CopyableStore, *, whole: bool = True) -> Epoch:
    """Copy everything, and complete the log, as the use cases do."""
    epoch = new_epoch()
    with source.copying.export(whole=whole) as (_, items):
        target.copying.write_copy(items, epoch, replace=False)
    target.adopt(epoch)
    target.rebuild()
    return epoch


def test_everything_comes_back_equal(both: tuple[Backend, Backend]) -> None:
    source, target = both[0].open(), both[1].open()
    source.initialise(new_epoch())
    fill(source)
    assert target.copying.is_virgin()

    epoch = copy(source, target)

    assert Held(target) == Held(source)
    assert exported(target).state == exported(source).state
    head = both[1].open().head()
    assert (head.epoch, head.whole, head.complete, head.floor) == (epoch, True, True, 0)
    assert (head.marks, head.retention) == (source.head().marks, RETENTION)
    held = Held(target)
    assert len(held.denials) == 5
    assert held.ends.keys() == {"s-ended", "s-never-seen"}
    assert held.generations[EVERYONE].number == 2
    assert [e.target for _, e in held.events] == ["first", "second"]
    assert [s.session_id for s in held.sessions["u_1"]] == ["s-alive"]
    assert {user.record.username for user in target.list_records(User)} == {"alice", "robert"}


def test_the_copy_serves_as_the_source_did(both: tuple[Backend, Backend]) -> None:
    source, target = both[0].open(), both[1].open()
    source.initialise(new_epoch())
    fill(source)
    copy(source, target)

    _, replica, journal = follow(both[1])
    known = replica.revocations
    assert {f't{number} "\N{SNOWMAN}\\' for number in range(5)} <= {id_ for id_, _ in known.denylist.items()}
    assert known.generations == source.generations()
    assert not journal.events, "nothing is missing, and nothing is repaired"
    store = both[1].open()
    state, before = (which.read_session(SessionId("s-alive")) for which in (store, source))
    assert state is not None
    assert before is not None
    assert (state.session, state.ended, state.generations) == (before.session, False, before.generations)
    assert store.replace_session(state.session, expected_version=state.version)
    assert store.read_session(SessionId("s-ended")) is None
    assert not store.consume("jti-1", LATER)
    assert store.consume("jti-2", LATER)
    for name, there in (("alice", True), ("robert", True), ("bob", False), ("gone", False)):
        assert (store.find_user(name) is not None) is there
    client = store.find_client("dns:billing.example")
    assert client is not None
    again = store.update(client.record, expected=client.revision)
    with pytest.raises(StaleEtagError):
        store.update(client.record, expected=client.revision)
    store.update(client.record, expected=again.revision)
    with pytest.raises(AlreadyExistsError):
        store.create(samples.a_user("u_9", "ROBERT"))
    store.delete(RecordKind.USER, "u_2")
    assert store.create(samples.a_user("u_9", "ROBERT")).revision.position == store.head().position
    assert store.list_records(Client)


def test_a_backup_has_no_sessions_and_no_audit_events(store: CopyableStore) -> None:
    fill(store)
    kinds = exported(store, whole=False).kinds
    assert not kinds["CopiedSession"]
    assert not kinds["CopiedEvent"]
    assert kinds["CopiedRecord"] >= 5


def test_a_session_that_ended_is_in_no_copy(store: CopyableStore) -> None:
    fill(store)
    assert exported(store).sessions.keys() == {"s-alive", "s-of-bob"}


def test_a_store_without_a_head_cannot_be_copied(backend: Backend) -> None:
    store = backend.open()
    with pytest.raises(StoreUninitializedError), store.copying.export(whole=True):
        pass
    with pytest.raises(StoreUninitializedError):
        store.copying.fenced()


def test_a_store_that_lost_entries_is_not_copied(store: CopyableStore, backend: Backend) -> None:
    deny(store, 5)
    backend.remove_entries(2, 3)
    with pytest.raises(StoreDamagedError, match="start the service"), store.copying.export(whole=False):
        pass
    store.renew(store.head().epoch, new_epoch())
    with pytest.raises(StoreDamagedError, match="start the service"), store.copying.export(whole=False):
        pass
    store.adopt(store.head().epoch)
    store.rebuild()
    assert len(exported(store).denials) == 5


# While others write.


class Writers:
    """Threads that change a store all the time, and know what was acknowledged."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.denied: list[TokenId] = []
        self.raised: list[PrincipalId] = []
        self.kept: dict[str, int] = {}
        """The least version of a client that is never deleted."""
        self.gone: set[str] = set()
        self.failed: list[BaseException] = []
        self.rounds = threading.Semaphore(0)
        jobs = (self._deny, self._revoke, self._change_records, self._delete_records)
        self._threads = [threading.Thread(target=self._run, args=[job, n]) for n, job in enumerate(jobs)]

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        self.let_write(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self.failed

    def let_write(self, rounds: int) -> None:
        """Return after so many changes."""
        for _ in range(rounds):
            self.rounds.acquire()

    def acknowledged(self) -> tuple[list[TokenId], list[PrincipalId], dict[str, int], set[str]]:
        with self._lock:
            return [*self.denied], [*self.raised], {**self.kept}, {*self.gone}

    def _run(self, job: Callable[[CopyableStore, int, int], None], number: int) -> None:
        store, count = self._backend.open(), 0
        try:
            while not self._stop.is_set():
                job(store, number, count)
                count += 1
                self.rounds.release()
        except BaseException as error:  # noqa: BLE001  # the test says it
            self.failed.append(error)
            self._stop.set()
            self.rounds.release(1000)

    def _deny(self, store: CopyableStore, number: int, count: int) -> None:
        (token_id,) = deny(store)
        with self._lock:
            self.denied.append(token_id)

    def _revoke(self, store: CopyableStore, number: int, count: int) -> None:
        principal = PrincipalId(f"p{count}")
        store.raise_generation(principal, above=0, request_id=None)
        with self._lock:
            self.raised.append(principal)

    def _change_records(self, store: CopyableStore, number: int, count: int) -> None:
        name = f"kept-{count % 7}"
        found = store.get(Client, name)
        record = samples.a_client(
            name, display_name=str(count), certificates=frozenset({f"dns:{name}-{count}"})
        )
        if found is None:
            store.create(record)
        else:
            store.update(record, expected=found.revision, revoke=count % 2 == 0)
        with self._lock:
            self.kept[name] = count

    def _delete_records(self, store: CopyableStore, number: int, count: int) -> None:
        name = f"u_w{count}"
        store.create(samples.a_user(name, f"name-{count % 3}"))
        store.delete(RecordKind.USER, name)
        with self._lock:
            self.gone.add(name)


def test_a_copy_made_while_others_write_has_all_that_was_acknowledged_before(backend: Backend) -> None:
    source = backend.open()
    source.initialise(new_epoch())
    fill(source)
    with Writers(backend) as writers:
        for _ in range(5):
            denied, raised, kept, gone = writers.acknowledged()
            with source.copying.export(whole=False) as (head, items):
                copied = Copied(slowly(items, writers))
            assert copied.denials.keys() >= {*denied}
            assert copied.generations.keys() >= {*raised, *gone}
            for name, count in kept.items():
                record = copied.records[RecordKind.CLIENT, name]
                assert isinstance(record, Client)
                assert int(record.display_name) >= count
                assert_is_whole(record)
            assert not {id_ for kind, id_ in copied.records if kind is RecordKind.USER} & gone
            assert_names_are_unique(copied)
            assert head.position <= source.head().position


def slowly(items: Iterator[CopiedItem], writers: Writers) -> Iterator[CopiedItem]:
    """Let others write between the kinds of items."""
    last: type[object] | None = None
    for item in items:
        if type(item) is not last:
            writers.let_write(3)
            last = type(item)
        yield item


def assert_is_whole(record: object) -> None:
    assert isinstance(record, Client)
    assert record.certificates == {f"dns:{record.client_id}-{record.display_name}"}


def assert_names_are_unique(copied: Copied) -> None:
    users = [record.username for record in copied.records.values() if isinstance(record, User)]
    assert len(users) == len({*users})


def test_a_raise_that_belongs_to_a_change_of_a_record_is_in_the_copy_with_it(
    store: CopyableStore, backend: Backend
) -> None:
    """A record that was read after its principal was revoked, and a generation that was read before."""
    other = backend.open()
    etag = store.create(samples.a_user("u_7", "seven")).revision
    with store.copying.export(whole=False) as (_, items):
        seen = [next(items)]
        other.update(samples.a_user("u_7", "eight"), expected=etag, revoke=True)
        seen += items
    copied = Copied(seen)
    record = copied.records[RecordKind.USER, "u_7"]
    assert isinstance(record, User)
    if record.username == "eight":
        assert copied.generations[PrincipalId("u_7")].number == 1


def test_a_new_epoch_ends_a_copy_in_progress(store: CopyableStore, backend: Backend) -> None:
    fill(store)
    other = backend.open()
    with store.copying.export(whole=False) as (_, items):
        next(items)
        other.renew(other.head().epoch, new_epoch())
        if isinstance(backend, SqliteBackend):
            assert Copied(items).denials, "what it reads is one moment, which nothing changes"
            return
        with pytest.raises(StoreReplacedError, match="begin again"):
            list(items)


def test_entries_trimmed_meanwhile_end_a_copy_in_progress(store: CopyableStore, backend: Backend) -> None:
    store.beat("p1", timedelta(seconds=1))
    deny(store, 3)
    other = backend.open()
    with store.copying.export(whole=False) as (_, items):
        next(items)
        deny(other, 3)
        backend.clock.advance(timedelta(seconds=2))
        assert other.trim(5) == 5
        if isinstance(backend, SqliteBackend):
            assert len(Copied(items).denials) == 3
            return
        with pytest.raises(StoreReplacedError, match="begin again"):
            list(items)


# Writing a copy.


def items_of_all_kinds() -> list[CopiedItem]:
    return [
        CopiedMarks(marks=MARKS, retention=RETENTION),
        CopiedGeneration(principal=EVERYONE, generation=Generation(number=3, link=Link("l-3"))),
        TokenDenied(token_id=TokenId("t1"), deny_until=LATER),
        SessionEnded(session_id=SessionId("s1"), deny_until=LATER, end_until=MUCH_LATER),
        CopiedRecord(record=samples.a_user("u_1", "alice")),
        CopiedRecord(record=samples.a_client("billing")),
        CopiedUse(key="jti", until=LATER),
        CopiedSession(session=samples.a_session("s2")),
    ]


def write(store: CopyableStore, items: list[CopiedItem], *, replace: bool = False) -> None:
    epoch = new_epoch()
    store.copying.write_copy(iter(items), epoch, replace=replace)
    store.adopt(epoch)
    store.rebuild()


def test_items_may_come_in_any_order_and_more_than_once(backend: Backend) -> None:
    items = items_of_all_kinds()
    store = backend.open()
    write(store, [*reversed(items), *items, *items])
    first = Held(store), exported(store).state
    write(store, items, replace=True)
    assert (Held(store), exported(store).state) == first
    assert store.head().marks == MARKS


def test_what_only_grows_is_never_made_less_by_a_later_item(backend: Backend) -> None:
    store, raised = backend.open(), PrincipalId("u_1")
    write(
        store,
        [
            CopiedGeneration(principal=raised, generation=Generation(number=3, link=Link("l-3"))),
            CopiedGeneration(principal=raised, generation=Generation(number=2, link=Link("l-2"))),
            TokenDenied(token_id=TokenId("t1"), deny_until=MUCH_LATER),
            TokenDenied(token_id=TokenId("t1"), deny_until=LATER),
            SessionEnded(session_id=SessionId("s1"), deny_until=LATER, end_until=MUCH_LATER),
            SessionEnded(session_id=SessionId("s1"), deny_until=MUCH_LATER, end_until=LATER),
            CopiedUse(key="jti", until=MUCH_LATER),
            CopiedUse(key="jti", until=LATER),
            CopiedMarks(marks=MARKS, retention=RETENTION),
            CopiedMarks(marks=Marks(lifetime=timedelta(hours=2)), retention=timedelta(0)),
        ],
    )
    held = Held(store)
    assert held.generations == {raised: Generation(number=3, link=Link("l-3"))}
    assert held.denials == {"t1": MUCH_LATER}
    assert held.ends == {"s1": (MUCH_LATER, MUCH_LATER)}
    assert exported(store).used == {"jti": MUCH_LATER}
    assert (held.marks.lifetime, held.marks.session) == (timedelta(hours=2), MARKS.session)
    assert held.retention == RETENTION


def test_two_raises_to_one_number_refuse_what_was_issued_under_either(backend: Backend) -> None:
    store, raised = backend.open(), PrincipalId("u_1")
    generations = [Generation(number=3, link=Link("l-3")), Generation(number=3, link=Link("other"))]
    write(store, [CopiedGeneration(principal=raised, generation=generation) for generation in generations])
    held = store.generations()[raised]
    assert all(held.is_raised_over(generation) for generation in generations)


def test_of_a_record_the_last_item_counts(backend: Backend) -> None:
    store = backend.open()
    write(
        store,
        [
            CopiedRecord(record=samples.a_user("u_1", "alice")),
            CopiedRecord(record=samples.a_user("u_2", "bob")),
            CopiedRecord(record=samples.a_user("u_3", "carol")),
            CopiedRecord(record=samples.a_user("u_1", "bob")),
            CopiedRecord(record=samples.a_user("u_2", "alice")),
            RecordGone(kind=RecordKind.USER, id="u_3"),
            RecordGone(kind=RecordKind.USER, id="u_never"),
        ],
    )
    found = {name: store.find_user(name) for name in ("alice", "bob", "carol")}
    assert {name: user and user.record.user_id for name, user in found.items()} == {
        "alice": "u_2",
        "bob": "u_1",
        "carol": None,
    }
    assert [user.record.id for user in store.list_records(User)] == ["u_1", "u_2"]
    with pytest.raises(NotFoundError):
        store.delete(RecordKind.USER, "u_3")


def test_a_record_of_a_copy_is_at_position_0(backend: Backend) -> None:
    store = backend.open()
    write(store, items_of_all_kinds())
    found = store.get(User, "u_1")
    assert found is not None
    assert str(found.revision) == f"{store.head().epoch}.0.-"


def test_a_copy_has_as_many_events_as_the_store_keeps(store: CopyableStore, backend: Backend) -> None:
    store.append_audit([samples.an_event(str(number)) for number in range(30)])
    with store.copying.export(whole=True) as (_, found):
        items = list(found)
    other = backend.open(audit_entries=10)
    write(other, items, replace=True)
    kept = [event.target for _, event in Held(other).events]
    assert kept == [str(number) for number in range(30)][-len(kept) :]
    if isinstance(backend, SqliteBackend):
        assert len(kept) == 10  # Redis forgets whole blocks


def test_a_store_that_holds_anything_takes_no_copy(store: CopyableStore, backend: Backend) -> None:
    deny(store)
    head = store.head()
    assert not store.copying.is_virgin()
    with pytest.raises(AlreadyExistsError):
        store.copying.write_copy(items_of_all_kinds(), new_epoch(), replace=False)
    assert store.head() == head
    backend.lose_head()
    with pytest.raises(AlreadyExistsError):
        store.copying.write_copy(items_of_all_kinds(), new_epoch(), replace=False)
    assert not store.copying.has_part_of_copy()


def test_a_copy_replaces_whatever_a_store_held(store: CopyableStore) -> None:
    fill(store)
    items = items_of_all_kinds()
    write(store, items, replace=True)
    held = exported(store)
    assert held.records.keys() == {(RecordKind.USER, "u_1"), (RecordKind.CLIENT, "billing")}
    assert held.generations == {EVERYONE: Generation(number=3, link=Link("l-3"))}
    assert [*held.denials, *held.ends, *held.used] == ["t1", "s1", "jti"]
    assert held.sessions.keys() == {"s2"}
    assert not held.events
    assert not store.heartbeats()
    assert store.find_user("robert") is None
    assert [entry.position for entry in store.read(0, 10).entries] == [1, 2]


def test_the_generations_of_a_store_are_known_though_it_lost_its_head(
    store: CopyableStore, backend: Backend
) -> None:
    store.raise_generation(EVERYONE, above=4, request_id=None)
    held = store.generations()
    backend.lose_head()
    assert backend.open().copying.generations_held() == held


class SourceError(Exception):
    """What a copy that cannot be read further raises."""


def breaks_off(count: int) -> Iterator[CopiedItem]:
    yield from items_of_all_kinds()
    for number in range(count):
        yield TokenDenied(token_id=TokenId(f"many-{number}"), deny_until=LATER)
    raise SourceError


@pytest.mark.parametrize("error", [SourceError(), OSError("disk"), StoreReplacedError("begin again")])
def test_what_the_items_raise_comes_out_as_it_is(backend: Backend, error: Exception) -> None:
    def items() -> Iterator[CopiedItem]:
        yield from items_of_all_kinds()
        raise error

    with pytest.raises(type(error)) as caught:
        backend.open().copying.write_copy(items(), new_epoch(), replace=False)
    assert caught.value is error


def test_a_copy_that_breaks_off_leaves_nothing_that_serves(store: CopyableStore, backend: Backend) -> None:
    fill(store)
    before, head = Held(store), store.head()
    with pytest.raises(SourceError):
        store.copying.write_copy(breaks_off(3000), new_epoch(), replace=True)
    if isinstance(backend, SqliteBackend):
        assert (Held(store), store.head()) == (before, head)
        assert not store.copying.has_part_of_copy()
        deny(store)
        return
    assert store.copying.has_part_of_copy()
    assert not store.copying.is_virgin()
    for again in (store, backend.open()):
        assert_is_refused(again)
    assert store.copying.has_part_of_copy()
    with pytest.raises(AlreadyExistsError):
        store.copying.write_copy(items_of_all_kinds(), new_epoch(), replace=False)

    store.copying.discard_copy()

    assert not store.copying.has_part_of_copy()
    assert store.copying.is_virgin()
    with pytest.raises(StoreUninitializedError, match="identity init"):
        store.head()
    write(store, items_of_all_kinds())
    assert exported(store).denials.keys() == {"t1"}


def assert_is_refused(store: CopyableStore) -> None:
    """Nothing starts on it, and nothing takes it for a store that is to be initialised or repaired."""
    message = r"was not finished: run it again.*identity restore FILE --replace.*identity migrate"
    for call in (
        lambda: store.initialise(new_epoch()),
        store.head,
        lambda: store.beat("p1"),
        lambda: store.renew(None, new_epoch()),
        lambda: store.renew(Epoch("e"), new_epoch()),
        lambda: deny(store),
    ):
        with pytest.raises(CopyUnfinishedError, match=message):
            call()


def test_a_copy_that_broke_off_may_be_replaced(backend: Backend) -> None:
    store = backend.open()
    with pytest.raises(SourceError):
        store.copying.write_copy(breaks_off(0), new_epoch(), replace=False)
    write(store, [TokenDenied(token_id=TokenId("t2"), deny_until=LATER)], replace=True)
    assert exported(store).denials.keys() == {"t2"}
    assert not exported(store).records
    store.deny_token(TokenId("t3"), LATER)


def test_of_two_copies_into_one_store_the_later_goes_on(backend: Backend) -> None:
    if isinstance(backend, SqliteBackend):
        pytest.skip("one transaction waits for the other")
    first, second = backend.open(), backend.open()

    def overtaken() -> Iterator[CopiedItem]:
        yield from items_of_all_kinds()
        write(second, [TokenDenied(token_id=TokenId("t2"), deny_until=LATER)], replace=True)
        yield TokenDenied(token_id=TokenId("t3"), deny_until=LATER)

    with pytest.raises(StoreReplacedError, match="another restore or migration"):
        first.copying.write_copy(overtaken(), new_epoch(), replace=False)
    assert exported(second).denials.keys() == {"t2"}
    assert second.head().complete


def test_there_is_nothing_to_discard_in_a_store_with_a_head(store: CopyableStore) -> None:
    fill(store)
    with pytest.raises(AlreadyExistsError):
        store.copying.discard_copy()
    assert len(exported(store).denials) == 5


def test_a_store_that_lost_its_head_is_not_discarded(store: CopyableStore, backend: Backend) -> None:
    store.raise_generation(EVERYONE, above=0, request_id=None)
    backend.lose_head()
    store.copying.discard_copy()
    assert store.copying.generations_held()


def test_a_raise_in_the_log_keeps_number_and_link(store: CopyableStore, backend: Backend) -> None:
    """Also one that a repair put back under another entry's link."""
    store.restore([GenerationRaised(principal=PrincipalId("u_1"), number=4, origin=Link("of-old"))])
    with store.copying.export(whole=False) as (_, items):
        seen = [next(items)]
        raised = [GenerationRaised(principal=PrincipalId("u_2"), number=6, origin=Link("of-older"))]
        backend.open().restore(raised)
        seen += items
    copied = Copied(seen)
    assert copied.generations[PrincipalId("u_1")] == Generation(number=4, link=Link("of-old"))
    if not isinstance(backend, SqliteBackend):
        assert copied.generations[PrincipalId("u_2")] == Generation(number=6, link=Link("of-older"))
