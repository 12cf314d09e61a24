"""A store is copied during writes: the copy contains all writes acknowledged before, and none in part."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from identity_service.domain.copying import CopiedItem, CopiedRecord
from identity_service.domain.errors import (
    StoreReplacedError,
)
from identity_service.domain.ids import Link, PrincipalId, TokenId, new_epoch
from identity_service.domain.log import (
    Generation,
    GenerationRaised,
    RecordKind,
    TokenDenied,
)
from identity_service.domain.principals import Client, User
from identity_service.domain.store import Store
from tests.conformance import samples
from tests.conformance.backends import Backend
from tests.conformance.copies import Copied, fill
from tests.conformance.samples import deny


class Writers:
    """Threads that change a store continuously, and remember the changes that the store acknowledged."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.denied: list[TokenId] = []
        self.raised: list[PrincipalId] = []
        self.kept: dict[str, int] = {}
        """For each client that is never deleted, the number of its last acknowledged change."""
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
        """Wait until the threads have made `rounds` more changes."""
        for _ in range(rounds):
            self.rounds.acquire()

    def acknowledged(self) -> tuple[list[TokenId], list[PrincipalId], dict[str, int], set[str]]:
        with self._lock:
            return [*self.denied], [*self.raised], {**self.kept}, {*self.gone}

    def _run(self, job: Callable[[Store, int, int], None], number: int) -> None:
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

    def _deny(self, store: Store, number: int, count: int) -> None:
        (token_id,) = deny(store)
        with self._lock:
            self.denied.append(token_id)

    def _revoke(self, store: Store, number: int, count: int) -> None:
        principal = PrincipalId(f"p{count}")
        store.facts.raise_generation(principal, above=0, request_id=None)
        with self._lock:
            self.raised.append(principal)

    def _change_records(self, store: Store, number: int, count: int) -> None:
        name = f"kept-{count % 7}"
        found = store.records.get(Client, name)
        record = samples.a_client(
            name, display_name=str(count), certificates=frozenset({f"dns:{name}-{count}"})
        )
        if found is None:
            store.records.create(record)
        else:
            store.records.update(record, expected=found.revision, revoke=count % 2 == 0)
        with self._lock:
            self.kept[name] = count

    def _delete_records(self, store: Store, number: int, count: int) -> None:
        name = f"u_w{count}"
        store.records.create(samples.a_user(name, f"name-{count % 3}"))
        store.records.delete(RecordKind.USER, name)
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
            assert head.position <= source.log.head().position


def slowly(items: Iterator[CopiedItem], writers: Writers) -> Iterator[CopiedItem]:
    """Yield the items, and let the writers make three changes before each new kind of item."""
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


@pytest.mark.parametrize("read_before", [TokenDenied, CopiedRecord])
def test_a_change_of_a_record_and_the_raise_with_it_are_both_in_the_copy_or_neither(
    store: Store, backend: Backend, read_before: type[CopiedItem]
) -> None:
    """The change happens after the copy has read the generations, before or after it reads the records."""
    other = backend.open()
    deny(store)
    changed = store.records.create(samples.a_user("u_7", "seven")).revision
    store.records.create(samples.a_user("u_8", "eight"))
    with store.copying.export(whole=False) as (_, items):
        seen = [*up_to(read_before, items)]
        other.records.update(samples.a_user("u_7", "changed"), expected=changed, revoke=True)
        other.records.delete(RecordKind.USER, "u_8")
        seen += items
    copied = Copied(seen)
    record = copied.records[RecordKind.USER, "u_7"]
    assert isinstance(record, User)
    both = (record.username == "changed", (RecordKind.USER, "u_8") not in copied.records)
    raised = tuple(PrincipalId(name) in copied.generations for name in ("u_7", "u_8"))
    assert both == raised == ((False, False) if backend.copies_at_once else (True, True))


def up_to(kind: type[CopiedItem], items: Iterator[CopiedItem]) -> Iterator[CopiedItem]:
    """Yield the items up to the first one of the given kind, which is included."""
    for item in items:
        yield item
        if isinstance(item, kind):
            return


def test_a_new_epoch_ends_a_copy_in_progress(store: Store, backend: Backend) -> None:
    fill(store)
    other = backend.open()
    with store.copying.export(whole=False) as (_, items):
        next(items)
        other.log.renew(other.log.head().epoch, new_epoch())
        if backend.copies_at_once:
            assert Copied(items).denials, "what it reads is one moment, which nothing changes"
            return
        with pytest.raises(StoreReplacedError, match="begin again"):
            list(items)


def test_entries_trimmed_meanwhile_end_a_copy_in_progress(store: Store, backend: Backend) -> None:
    store.log.heartbeat("p1", timedelta(seconds=1))
    deny(store, 3)
    other = backend.open()
    with store.copying.export(whole=False) as (_, items):
        next(items)
        deny(other, 3)
        backend.clock.advance(timedelta(seconds=2))
        assert other.log.trim(5) == 5
        if backend.copies_at_once:
            assert len(Copied(items).denials) == 3
            return
        with pytest.raises(StoreReplacedError, match="begin again"):
            list(items)


def test_a_raise_in_the_log_keeps_number_and_link(store: Store, backend: Backend) -> None:
    """A raise that a repair appended keeps the link of its original entry."""
    deny(store)
    store.log.repair([GenerationRaised(principal=PrincipalId("u_1"), number=4, origin=Link("of-old"))])
    with store.copying.export(whole=False) as (_, items):
        seen = [*up_to(TokenDenied, items)]
        raised = [GenerationRaised(principal=PrincipalId("u_2"), number=6, origin=Link("of-older"))]
        backend.open().log.repair(raised)
        seen += items
    copied = Copied(seen)
    assert copied.generations[PrincipalId("u_1")] == Generation(number=4, link=Link("of-old"))
    if not backend.copies_at_once:
        assert copied.generations[PrincipalId("u_2")] == Generation(number=6, link=Link("of-older"))
