"""Audit events: stored in one step with the change that they record, in order, bounded, searchable."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from identity_service.domain.audit import AuditEvent, AuditFilter, AuditType
from identity_service.domain.errors import (
    AlreadyExistsError,
    IdentityError,
    NotFoundError,
    StaleEtagError,
    StoreReplacedError,
    StoreUnavailableError,
)
from identity_service.domain.ids import PrincipalId, SessionId, TokenId, new_epoch
from identity_service.domain.log import RecordKind
from identity_service.domain.store import Store
from tests.conformance.backends import Backend
from tests.conformance.samples import LATER, MUCH_LATER, NOWHERE, a_client, a_session, a_user, an_event
from tests.fakes.clocks import FakeClock

ALL = AuditFilter()


def targets(store: Store, wanted: AuditFilter = ALL) -> list[str]:
    return [stored.event.target for stored in store.audit.list_newest(wanted)[0]]


WITH_EVENT: dict[str, Callable[[Store, AuditEvent], object]] = {
    "deny_token": lambda s, e: s.facts.deny_token(TokenId("t"), LATER, audit=e),
    "end_session": lambda s, e: s.facts.end_session(
        SessionId("s"), deny_until=LATER, end_until=MUCH_LATER, audit=e
    ),
    "raise_generation": lambda s, e: s.facts.raise_generation(
        PrincipalId("u_1"), above=0, request_id="r", audit=e
    ),
    "create": lambda s, e: s.records.create(a_client("created"), audit=e),
    "delete": lambda s, e: s.records.delete(RecordKind.USER, "u_1", audit=e),
}


@pytest.mark.parametrize("name", WITH_EVENT)
def test_a_mutation_stores_its_event_as_it_was_given(store: Store, clock: FakeClock, name: str) -> None:
    store.records.create(a_user("u_1"))
    event = an_event(name)

    WITH_EVENT[name](store, event)

    (stored,) = store.audit.list_newest(ALL)[0]
    assert stored.event == event
    assert stored.time == clock.now()


def test_an_update_stores_its_event(store: Store) -> None:
    etag = store.records.create(a_user("u_1")).revision

    store.records.update(a_user("u_1", "carol"), expected=etag, revoke=True, audit=an_event("changed"))

    assert targets(store) == ["changed"]


@pytest.mark.parametrize("name", ["deny_token", "end_session", "raise_generation"])
def test_a_repeated_call_stores_its_event_too(store: Store, name: str) -> None:
    WITH_EVENT[name](store, an_event("first"))
    position = store.log.head().position

    WITH_EVENT[name](store, an_event("again"))

    assert store.log.head().position == position
    assert targets(store) == ["again", "first"]


REFUSED: dict[str, tuple[type[IdentityError], Callable[[Store, AuditEvent], object]]] = {
    "create": (AlreadyExistsError, lambda s, e: s.records.create(a_user("u_1", "another"), audit=e)),
    "create, name taken": (
        AlreadyExistsError,
        lambda s, e: s.records.create(a_user("u_2", "alice"), audit=e),
    ),
    "update": (StaleEtagError, lambda s, e: s.records.update(a_user("u_1"), expected=NOWHERE, audit=e)),
    "delete": (NotFoundError, lambda s, e: s.records.delete(RecordKind.USER, "u_9", audit=e)),
    "delete, changed": (
        StaleEtagError,
        lambda s, e: s.records.delete(RecordKind.USER, "u_1", expected=NOWHERE, audit=e),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mutation_that_is_refused_stores_no_event(store: Store, name: str) -> None:
    store.records.create(a_user("u_1", "alice"))
    error, call = REFUSED[name]

    with pytest.raises(error):
        call(store, an_event())

    assert targets(store) == []


@pytest.mark.parametrize("name", WITH_EVENT)
def test_a_mutation_under_another_epoch_stores_no_event(store: Store, name: str) -> None:
    store.records.create(a_user("u_1"))
    store.log.adopt(new_epoch())

    with pytest.raises(StoreReplacedError):
        WITH_EVENT[name](store, an_event())

    assert targets(store) == []


def test_events_without_a_change_keep_their_order_under_any_epoch(store: Store) -> None:
    store.log.adopt(new_epoch())

    store.audit.append([an_event("1"), an_event("2")])
    store.audit.append([])
    store.audit.append([an_event("3")])

    assert targets(store) == ["3", "2", "1"]


def test_pages_show_every_event_once(store: Store) -> None:
    store.audit.append([an_event(str(number)) for number in range(7)])
    seen: list[str] = []
    before = ""
    while True:
        events, before = store.audit.list_newest(ALL, before=before, limit=3)
        assert len(events) <= 3
        seen += [stored.event.target for stored in events]
        if not before:
            break

    assert seen == [str(number) for number in reversed(range(7))]


def test_events_are_found_by_type_principal_and_time(store: Store, clock: FakeClock) -> None:
    store.audit.append([an_event("early", actor="ops"), an_event("other", type=AuditType.USER_CREATED)])
    clock.advance(timedelta(minutes=1))
    moment = clock.now()
    store.audit.append([an_event("late", details={"subject": "u_7"})])

    assert targets(store, AuditFilter(principal="ops")) == ["early"]
    assert targets(store, AuditFilter(principal="u_7")) == ["late"]
    assert targets(store, AuditFilter(types=("user_created",))) == ["other"]
    assert targets(store, AuditFilter(start_time=moment)) == ["late"]
    assert targets(store, AuditFilter(end_time=moment)) == ["other", "early"]


def test_a_search_that_finds_little_returns_the_place_to_continue(store: Store) -> None:
    """Because of the place to continue, a single call never has to read the whole audit log."""
    store.audit.append([an_event("needle", actor="ops")])
    for _ in range(5):
        store.audit.append([an_event() for _ in range(500)])

    first, before = store.audit.list_newest(AuditFilter(principal="ops"))
    second, end = store.audit.list_newest(AuditFilter(principal="ops"), before=before)

    assert (first, bool(before)) == ([], True)
    assert ([stored.event.target for stored in second], end) == (["needle"], "")


def test_a_tail_begins_at_the_last_event_and_misses_none_after_it(store: Store) -> None:
    assert store.audit.read_after(None, 10) == []
    store.audit.append([an_event("1"), an_event("2")])
    (last,) = store.audit.read_after(None, 10)
    assert last.event.target == "2"

    store.audit.append([an_event(name) for name in "345"])

    assert [s.event.target for s in store.audit.read_after(last.event_id, 2)] == ["3", "4"]
    assert [s.event.target for s in store.audit.read_after("", 10)] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("text", ["x", "1-2-3", "-1", "9" * 30, "1;DROP", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_a_malformed_event_id_is_a_value_error(store: Store, text: str) -> None:
    with pytest.raises(ValueError, match="event id"):
        store.audit.list_newest(ALL, before=text)
    with pytest.raises(ValueError, match="event id"):
        store.audit.read_after(text, 1)


def test_the_oldest_events_are_forgotten_first(backend: Backend) -> None:
    """Redis trims its stream by whole nodes of 100 entries, so it may keep more events than the bound."""
    store = backend.open(audit_entries=1000)
    store.initialise(new_epoch())

    for start in range(0, 3000, 500):
        store.audit.append([an_event(str(start + number)) for number in range(500)])
    store.facts.deny_token(TokenId("t"), LATER, audit=an_event("last"))

    kept = [stored.event.target for stored in store.audit.read_after("", 5000)]
    assert kept[-1] == "last"
    assert 1000 <= len(kept) <= 1200
    assert kept == [*(str(number) for number in range(3001 - len(kept), 3000)), "last"]


def refused_calls(count: int, first: int = 0) -> list[AuditEvent]:
    """Return `count` audit events of refused calls, which any unauthenticated stranger can cause."""
    return [an_event(f"call-{first + n}", type=AuditType.CALL_REFUSED) for n in range(count)]


def test_refused_calls_never_push_out_events_of_changes(backend: Backend) -> None:
    store = backend.open(audit_entries=1000, audit_traffic_entries=1000)
    store.initialise(new_epoch())
    store.facts.deny_token(TokenId("t"), LATER, audit=an_event("revoked"))

    for start in range(0, 3000, 500):
        store.audit.append(refused_calls(500, start))

    assert targets(store, AuditFilter(types=[AuditType.TOKEN_REVOKED])) == ["revoked"]
    assert store.audit.read_after("", 1)[0].event.target == "revoked"


def test_either_ring_forgets_its_own_oldest_events(backend: Backend) -> None:
    store = backend.open(audit_entries=1000, audit_traffic_entries=300)
    store.initialise(new_epoch())

    for start in range(0, 3000, 500):
        store.audit.append(refused_calls(500, start))
        store.audit.append([an_event(str(start + number)) for number in range(500)])

    kept = store.audit.read_after("", 5000)
    traffic = [one.event.target for one in kept if one.event.type is AuditType.CALL_REFUSED]
    changes = [one.event.target for one in kept if one.event.type is not AuditType.CALL_REFUSED]
    assert traffic == [f"call-{number}" for number in range(3000)][-len(traffic) :]
    assert changes == [str(number) for number in range(3000)][-len(changes) :]
    # Redis forgets whole nodes of its streams.
    assert 300 <= len(traffic) <= 500
    assert 1000 <= len(changes) <= 1200


def mixed(store: Store) -> list[str]:
    """Store events in both rings alternately, in several ways.

    Returns their targets in the order of storing.
    """
    names = []

    def named(name: str) -> str:
        names.append(name)
        return name

    store.audit.append([an_event(named(f"t{n}"), type=AuditType.ISSUE_REFUSED) for n in range(3)])
    store.facts.deny_token(TokenId("t1"), LATER, audit=an_event(named("c1")))
    store.facts.deny_token(TokenId("t2"), LATER, audit=an_event(named("c2")))
    store.audit.append(
        [
            an_event(named("t3"), type=AuditType.CALL_REFUSED),
            an_event(named("c3"), type=AuditType.REFRESH_TOKEN_REUSED),
            an_event(named("t4"), type=AuditType.CALL_REFUSED),
            an_event(named("t5"), type=AuditType.CALL_REFUSED),
        ]
    )
    store.sessions.create(a_session(), audit=an_event(named("c4"), type=AuditType.SESSION_STARTED))
    store.audit.append([an_event(named("t6"), type=AuditType.TOKEN_ISSUED)])
    return names


def test_events_of_both_rings_are_read_in_the_order_in_which_they_were_stored(store: Store) -> None:
    names = mixed(store)

    assert targets(store) == names[::-1]
    assert [one.event.target for one in store.audit.read_after("", 100)] == names
    (last,) = store.audit.read_after(None, 100)
    assert last.event.target == names[-1]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pages_over_both_rings_show_every_event_once(store: Store, size: int) -> None:
    names = mixed(store)
    forwards: list[str] = []
    backwards: list[str] = []
    after = before = ""
    while page := store.audit.read_after(after, size):
        assert len(page) <= size
        forwards += [one.event.target for one in page]
        after = page[-1].event_id
    while True:
        page, before = store.audit.list_newest(ALL, before=before, limit=size)
        backwards += [one.event.target for one in page]
        if not before:
            break

    assert forwards == names
    assert backwards == names[::-1]


def test_a_tail_misses_no_event_of_either_ring(store: Store) -> None:
    """The reader polls after every write, so each event is at some time the last one it has seen."""
    seen: list[str] = []
    last = ""
    for number in range(30):
        type_ = AuditType.CALL_REFUSED if number % 3 else AuditType.REFRESH_TOKEN_REUSED
        store.audit.append([an_event(str(number), type=type_)])
        for one in store.audit.read_after(last, 10):
            seen.append(one.event.target)
            last = one.event_id

    assert seen == [str(number) for number in range(30)]


def test_a_search_for_changes_alone_finds_them_behind_any_traffic(store: Store) -> None:
    """One call examines a bounded number of events; a search for changes examines no traffic."""
    store.facts.deny_token(TokenId("t"), LATER, audit=an_event("revoked"))
    for start in range(0, 2500, 500):
        store.audit.append(refused_calls(500, start))

    wanted = AuditFilter(types=[AuditType.TOKEN_REVOKED, AuditType.SESSION_REVOKED])

    assert targets(store, wanted) == ["revoked"]
    # A search that an event of traffic could meet has to look at them, and goes on at the next page.
    assert targets(store, AuditFilter(types=[*wanted.types, AuditType.TOKEN_ISSUED])) == []


def test_traffic_in_the_only_ring_of_an_older_version_is_read_in_its_place(
    store: Store, backend: Backend
) -> None:
    """The older version stored all events in the ring that now holds only the events of changes."""
    backend.append_event_of_older_version(an_event("old-1", type=AuditType.TOKEN_ISSUED))
    store.facts.deny_token(TokenId("t"), LATER, audit=an_event("revoked"))
    backend.append_event_of_older_version(an_event("old-2", type=AuditType.CALL_REFUSED))
    store.audit.append(refused_calls(1))

    order = ["old-1", "revoked", "old-2", "call-0"]
    assert [one.event.target for one in store.audit.read_after("", 100)] == order
    assert targets(store) == order[::-1]
    assert targets(store, AuditFilter(types=[AuditType.TOKEN_ISSUED])) == ["old-1"]


def test_traffic_in_the_only_ring_of_an_older_version_is_pushed_out_by_changes(backend: Backend) -> None:
    store = backend.open(audit_entries=1000)
    store.initialise(new_epoch())
    backend.append_event_of_older_version(an_event("old", type=AuditType.TOKEN_ISSUED))

    for _ in range(3):
        store.audit.append([an_event() for _ in range(500)])

    assert "old" not in [one.event.target for one in store.audit.read_after("", 5000)]


def test_a_session_is_stored_with_its_event(store: Store, clock: FakeClock) -> None:
    event = an_event("s1", type=AuditType.SESSION_STARTED)

    store.sessions.create(a_session("s1"), audit=event)

    (stored,) = store.audit.list_newest(ALL)[0]
    assert (stored.event, stored.time) == (event, clock.now())
    assert store.sessions.read(SessionId("s1")) is not None


def test_a_session_under_another_epoch_is_not_stored_and_neither_is_its_event(store: Store) -> None:
    store.log.adopt(new_epoch())

    with pytest.raises(StoreReplacedError):
        store.sessions.create(a_session("s1"), audit=an_event("s1", type=AuditType.SESSION_STARTED))

    assert targets(store) == []
    assert store.sessions.read(SessionId("s1")) is None


def test_a_session_whose_event_cannot_be_stored_is_not_stored(store: Store, backend: Backend) -> None:
    """A session is never stored without its event, even if a different server holds the events."""
    backend.refuse_events()

    with pytest.raises(StoreUnavailableError):
        store.sessions.create(a_session("s1"), audit=an_event("s1", type=AuditType.SESSION_STARTED))

    assert store.sessions.read(SessionId("s1")) is None


@pytest.mark.parametrize("name", WITH_EVENT)
def test_a_mutation_whose_event_cannot_be_stored_changes_nothing(
    store: Store, backend: Backend, name: str
) -> None:
    store.records.create(a_user("u_1"))
    position = store.log.head().position
    backend.refuse_events()

    with pytest.raises(StoreUnavailableError):
        WITH_EVENT[name](store, an_event())

    assert store.log.head().position == position
