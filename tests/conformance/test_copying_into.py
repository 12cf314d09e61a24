"""Writing a copy into a store: the store gets the whole copy, or serves nothing of it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.audit import AuditType, RingSizes
from identity_service.domain.copying import (
    CopiedGeneration,
    CopiedItem,
    CopiedMarks,
    CopiedRecord,
    CopiedSession,
    CopiedUse,
    RecordDeleted,
)
from identity_service.domain.errors import (
    AlreadyExistsError,
    CopyUnfinishedError,
    NotFoundError,
    StoreReplacedError,
    StoreUninitializedError,
)
from identity_service.domain.ids import EVERYONE, Epoch, Link, PrincipalId, SessionId, TokenId, new_epoch
from identity_service.domain.log import (
    Generation,
    Marks,
    RecordKind,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.principals import User
from identity_service.domain.store import Store
from identity_service.storage.redis import copying, importing
from identity_service.storage.redis.importing import Import, clear
from tests.conformance import samples
from tests.conformance.backends import Backend
from tests.conformance.copies import MARKS, RETENTION, Held, exported, fill
from tests.conformance.samples import LATER, MUCH_LATER, deny


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


def write(store: Store, items: list[CopiedItem], *, replace: bool = False) -> None:
    epoch = new_epoch()
    store.copying.write_copy(iter(items), epoch, replace=replace)
    store.log.adopt(epoch)
    store.log.rebuild()


def test_items_may_come_in_any_order_and_more_than_once(backend: Backend) -> None:
    items = items_of_all_kinds()
    store = backend.open()
    write(store, [*reversed(items), *items, *items])
    first = Held(store), exported(store).state
    write(store, items, replace=True)
    assert (Held(store), exported(store).state) == first
    assert store.log.head().marks == MARKS


def test_a_later_item_never_lowers_a_generation_a_denial_or_a_mark(backend: Backend) -> None:
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


def test_two_raises_to_one_number_refuse_the_tokens_issued_under_either(backend: Backend) -> None:
    store, raised = backend.open(), PrincipalId("u_1")
    generations = [Generation(number=3, link=Link("l-3")), Generation(number=3, link=Link("other"))]
    write(store, [CopiedGeneration(principal=raised, generation=generation) for generation in generations])
    held = store.log.generations()[raised]
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
            RecordDeleted(kind=RecordKind.USER, id="u_3"),
            RecordDeleted(kind=RecordKind.USER, id="u_never"),
        ],
    )
    found = {name: store.records.find_user(name) for name in ("alice", "bob", "carol")}
    assert {name: user and user.record.user_id for name, user in found.items()} == {
        "alice": "u_2",
        "bob": "u_1",
        "carol": None,
    }
    assert [user.record.id for user in store.records.list_of(User)] == ["u_1", "u_2"]
    with pytest.raises(NotFoundError):
        store.records.delete(RecordKind.USER, "u_3")


def test_a_record_of_a_copy_is_at_position_0(backend: Backend) -> None:
    store = backend.open()
    write(store, items_of_all_kinds())
    found = store.records.get(User, "u_1")
    assert found is not None
    assert str(found.revision) == f"{store.log.head().epoch}.0.-"


def test_a_copy_has_as_many_events_as_the_store_keeps(store: Store, backend: Backend) -> None:
    names = [str(number) for number in range(30)]
    for kind in (AuditType.TOKEN_REVOKED, AuditType.CALL_REFUSED):
        store.audit.append([samples.an_event(name, type=kind) for name in names])
    with store.copying.export(whole=True) as (_, found):
        items = list(found)
    other = backend.open(audit_entries=10, audit_traffic_entries=20)
    write(other, items, replace=True)
    held = [event for _, event in Held(other).events]
    changes = [event.target for event in held if event.type is AuditType.TOKEN_REVOKED]
    traffic = [event.target for event in held if event.type is AuditType.CALL_REFUSED]
    assert changes == names[-len(changes) :]
    assert traffic == names[-len(traffic) :]
    if backend.keeps_exact_counts:
        assert (len(changes), len(traffic)) == (10, 20)


def test_a_store_that_holds_anything_takes_no_copy(store: Store, backend: Backend) -> None:
    deny(store)
    head = store.log.head()
    assert not store.copying.is_empty()
    with pytest.raises(AlreadyExistsError):
        store.copying.write_copy(items_of_all_kinds(), new_epoch(), replace=False)
    assert store.log.head() == head
    backend.lose_head()
    with pytest.raises(AlreadyExistsError):
        store.copying.write_copy(items_of_all_kinds(), new_epoch(), replace=False)
    assert not store.copying.has_part_of_copy()


def test_a_copy_replaces_the_whole_content_of_a_store(store: Store) -> None:
    fill(store)
    items = items_of_all_kinds()
    write(store, items, replace=True)
    held = exported(store)
    assert held.records.keys() == {(RecordKind.USER, "u_1"), (RecordKind.CLIENT, "billing")}
    assert held.generations == {EVERYONE: Generation(number=3, link=Link("l-3"))}
    assert [*held.denials, *held.ends, *held.used] == ["t1", "s1", "jti"]
    assert held.sessions.keys() == {"s2"}
    assert not held.events
    assert not store.log.heartbeats()
    assert store.records.find_user("robert") is None
    assert [entry.position for entry in store.log.read(0, 10).entries] == [1, 2]


def test_the_generations_of_a_store_are_known_though_it_lost_its_head(store: Store, backend: Backend) -> None:
    store.facts.raise_generation(EVERYONE, above=4, request_id=None)
    held = store.log.generations()
    backend.lose_head()
    assert backend.open().copying.generations_held() == held


class SourceError(Exception):
    """Raised by the source of a copy that cannot be read any further."""


def breaks_off(count: int) -> Iterator[CopiedItem]:
    yield from items_of_all_kinds()
    for number in range(count):
        yield TokenDenied(token_id=TokenId(f"many-{number}"), deny_until=LATER)
    raise SourceError


@pytest.mark.parametrize("error", [SourceError(), OSError("disk"), StoreReplacedError("begin again")])
def test_an_exception_of_the_items_is_raised_unchanged(backend: Backend, error: Exception) -> None:
    def items() -> Iterator[CopiedItem]:
        yield from items_of_all_kinds()
        raise error

    with pytest.raises(type(error)) as caught:
        backend.open().copying.write_copy(items(), new_epoch(), replace=False)
    assert caught.value is error


def test_a_copy_that_breaks_off_leaves_nothing_that_serves(store: Store, backend: Backend) -> None:
    fill(store)
    before, head = Held(store), store.log.head()
    with pytest.raises(SourceError):
        store.copying.write_copy(breaks_off(3000), new_epoch(), replace=True)
    if backend.copies_at_once:
        assert (Held(store), store.log.head()) == (before, head)
        assert not store.copying.has_part_of_copy()
        deny(store)
        return
    assert store.copying.has_part_of_copy()
    assert not store.copying.is_empty()
    for again in (store, backend.open()):
        assert_is_refused(again)
    assert store.copying.has_part_of_copy()
    with pytest.raises(AlreadyExistsError):
        store.copying.write_copy(items_of_all_kinds(), new_epoch(), replace=False)

    store.copying.discard_copy()

    assert not store.copying.has_part_of_copy()
    assert store.copying.is_empty()
    with pytest.raises(StoreUninitializedError, match="identity init"):
        store.log.head()
    write(store, items_of_all_kinds())
    assert exported(store).denials.keys() == {"t1"}


def assert_is_refused(store: Store) -> None:
    """Check that no process can use the store, initialise it or renew its epoch."""
    message = r"was not finished: run it again.*identity restore FILE --replace.*identity migrate"
    for call in (
        lambda: store.initialise(new_epoch()),
        store.log.head,
        lambda: store.log.heartbeat("p1"),
        lambda: store.log.renew(None, new_epoch()),
        lambda: store.log.renew(Epoch("e"), new_epoch()),
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
    store.facts.deny_token(TokenId("t3"), LATER)


def test_of_two_copies_into_one_store_the_later_goes_on(backend: Backend) -> None:
    if backend.copies_at_once:
        pytest.skip("one transaction waits for the other")
    first, second = backend.open(), backend.open()

    def overtaken() -> Iterator[CopiedItem]:
        yield from items_of_all_kinds()
        write(second, [TokenDenied(token_id=TokenId("t2"), deny_until=LATER)], replace=True)
        yield TokenDenied(token_id=TokenId("t3"), deny_until=LATER)

    with pytest.raises(StoreReplacedError, match="another restore or migration"):
        first.copying.write_copy(overtaken(), new_epoch(), replace=False)
    assert exported(second).denials.keys() == {"t2"}
    assert second.log.head().complete


def test_there_is_nothing_to_discard_in_a_store_with_a_head(store: Store) -> None:
    fill(store)
    with pytest.raises(AlreadyExistsError):
        store.copying.discard_copy()
    assert len(exported(store).denials) == 5


def test_a_store_that_lost_its_head_is_not_discarded(store: Store, backend: Backend) -> None:
    store.facts.raise_generation(EVERYONE, above=0, request_id=None)
    backend.lose_head()
    store.copying.discard_copy()
    assert store.copying.generations_held()


def test_a_copy_that_another_command_has_finished_meanwhile_is_not_deleted(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first command is paused after its first step, and resumes when the other has finished its copy."""
    if backend.copies_at_once:
        pytest.skip("one transaction waits for the other")
    first, second = backend.open(), backend.open()

    def paused(*words: Any) -> None:
        monkeypatch.undo()
        write(second, items_of_all_kinds(), replace=True)
        clear(*words)

    monkeypatch.setattr(importing, "clear", paused)
    with pytest.raises(StoreReplacedError, match="another restore or migration"):
        write(first, [TokenDenied(token_id=TokenId("t2"), deny_until=LATER)], replace=True)
    assert exported(second).denials.keys() == {"t1"}
    assert second.log.head().complete


def test_a_copy_that_is_about_to_be_discarded_gets_no_head(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a head, the store would serve without the items that the discarding command has deleted."""
    if backend.copies_at_once:
        pytest.skip("one transaction waits for the other")
    first, second = backend.open(), backend.open()

    def discarding(*words: Any) -> None:
        with pytest.raises(StoreReplacedError, match="another restore or migration"):
            next(steps)
        clear(*words)

    def finishes() -> Iterator[None]:
        connection = first.copying._connection  # type: ignore[attr-defined]
        copy = Import(connection, Epoch("e-first"), RingSizes())
        copy.begin(replace=False)
        copy.write(items_of_all_kinds())
        yield
        copy.finish()
        yield

    steps = finishes()
    next(steps)
    monkeypatch.setattr(copying, "clear", discarding)
    second.copying.discard_copy()
    assert first.copying.is_empty()
