"""The change log: positions without gaps, an unbroken chain of links, and reads from any position on."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from identity_service.domain.errors import AlreadyExistsError
from identity_service.domain.ids import NO_LINK, PrincipalId, TokenId, new_epoch
from identity_service.domain.log import LogEntry, TokenDenied
from identity_service.domain.principals import Client
from identity_service.domain.store import Store
from tests.conformance.backends import Backend
from tests.conformance.samples import LATER, a_client, a_session, a_user, deny, entries_of
from tests.fakes.clocks import FakeClock

THREADS = 8


def assert_chain(entries: tuple[LogEntry, ...]) -> None:
    """Check that positions rise from 1 without gaps, and that each entry names the link before its own."""
    assert [e.position for e in entries] == list(range(1, len(entries) + 1))
    assert [e.previous_link for e in entries] == [NO_LINK, *(e.link for e in entries)][: len(entries)]
    assert len({e.link for e in entries} | {NO_LINK}) == len(entries) + 1


def test_a_new_log_is_empty(backend: Backend) -> None:
    epoch = new_epoch()
    store = backend.open()
    store.initialise(epoch)
    head = store.log.head()
    assert (head.epoch, head.position, head.link) == (epoch, 0, NO_LINK)
    page = store.log.read(0, 10)
    assert page.entries == ()
    assert page.head == head


def test_entries_are_read_in_the_order_they_were_appended(store: Store) -> None:
    ids = deny(store, 20)
    entries = entries_of(store)
    assert [e.change for e in entries] == [TokenDenied(token_id=i, deny_until=LATER) for i in ids]
    assert_chain(entries)


def test_the_head_is_the_last_entry(store: Store) -> None:
    appended = store.facts.deny_token(TokenId("token-1"), LATER)
    deny(store, 3)
    last = store.facts.deny_token(TokenId("token-2"), LATER)
    entry = entries_of(store)[-1]
    head = store.log.head()
    assert (head.position, head.link) == (entry.position, entry.link)
    assert head.revision == last.revision
    assert last.revision.position == appended.revision.position + 4
    assert store.log.read(2, 1).head == head


def test_the_head_carries_the_time_of_the_stores_clock(store: Store, clock: FakeClock) -> None:
    before = store.log.head().time
    clock.advance(timedelta(seconds=1.5))

    assert store.log.head().time == clock.now()
    assert store.log.head().time - before == timedelta(seconds=1.5)


@pytest.mark.parametrize("after", [0, 1, 4, 9, 10])
def test_reading_goes_on_after_any_place(store: Store, after: int) -> None:
    deny(store, 10)
    page = store.log.read(after, 100)
    assert page.entries == entries_of(store)[after:]
    assert store.log.read_entries(after, 100) == page.entries
    assert store.log.read_entries(after, 3) == page.entries[:3]
    assert page.head == store.log.head()


def test_reading_past_the_end_gives_nothing_and_the_head(store: Store) -> None:
    deny(store, 2)
    for after in (3, 2**40):
        page = store.log.read(after, 100)
        assert page.entries == ()
        assert page.head == store.log.head()


def test_a_page_holds_no_more_than_asked_and_pages_join_without_a_gap(store: Store) -> None:
    deny(store, 10)
    read: list[LogEntry] = []
    while (page := store.log.read(len(read), 3)).entries:
        assert len(page.entries) <= 3
        assert page.head == store.log.head()
        read += page.entries
    assert tuple(read) == entries_of(store)


def test_a_long_log_is_read_whole(store: Store) -> None:
    """Positions must not sort as text ("10" before "2"), and no page size of a store may cut the result."""
    ids = deny(store, 250)
    entries = entries_of(store)
    assert_chain(entries)
    assert [e.change for e in entries] == [TokenDenied(token_id=i, deny_until=LATER) for i in ids]


def test_sessions_and_heartbeats_append_nothing(store: Store) -> None:
    session = a_session()
    store.sessions.create(session)
    store.sessions.replace(session, expected_version=1)
    store.sessions.read(session.session_id)
    store.log.heartbeat("process-1")
    assert store.log.head().position == 0


def test_a_heartbeat_returns_the_head(store: Store) -> None:
    deny(store, 2)
    assert store.log.heartbeat("process-1") == store.log.head()
    assert store.log.heartbeat("process-1") == store.log.head()
    assert store.log.heartbeat("process-2") == store.log.head()


def test_two_instances_append_to_one_log(store: Store, backend: Backend) -> None:
    other = backend.open()
    for _ in range(5):
        deny(store)
        deny(other)
    entries = entries_of(store)
    assert len(entries) == 10
    assert_chain(entries)
    assert entries == entries_of(other)
    assert store.log.head() == other.log.head()


def test_concurrent_appends_leave_no_gap_and_an_intact_chain(store: Store, backend: Backend) -> None:
    """Half of the threads write through a second store instance; each makes several kinds of writes."""
    other = backend.open()

    def write(number: int) -> None:
        through = (store, other)[number % 2]
        principal = PrincipalId(f"client-{number}")
        deny(through, 5)
        created = through.records.create(a_client(principal))
        through.records.update(a_client(principal), expected=created.revision, revoke=True)
        through.facts.raise_generation(PrincipalId("everybody"), above=0, request_id=None)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(write, range(THREADS)))
    entries = entries_of(store)
    assert_chain(entries)
    assert len(entries) == THREADS * 9
    assert store.log.generations()[PrincipalId("everybody")].number == THREADS
    assert len(store.records.list_of(Client)) == THREADS


def test_concurrent_repetitions_of_one_fact_append_it_once(store: Store) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(
            pool.map(lambda _: store.facts.deny_token(TokenId("token-1"), LATER), range(4 * THREADS))
        )
    assert len(entries_of(store)) == 1
    assert set(answers) == {answers[0]}


def test_concurrent_creations_of_one_username_have_one_winner(store: Store) -> None:
    def create(number: int) -> bool:
        try:
            store.records.create(a_user(f"u_{number}", "alice"))
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(THREADS) as pool:
        won = list(pool.map(create, range(THREADS)))
    assert won.count(True) == 1
    found = store.records.find_user("alice")
    assert found is not None
    assert found.record.user_id == f"u_{won.index(True)}"


def test_a_reader_sees_only_whole_steps_while_others_write(store: Store, backend: Backend) -> None:
    """A page and its head show the same point in time, and the two entries of one write appear together."""
    writer = backend.open()
    revision = writer.records.create(a_client()).revision

    def write() -> None:
        nonlocal revision
        for _ in range(200):
            revision = writer.records.update(a_client(), expected=revision, revoke=True).revision

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            page = store.log.read(0, 1000)
            assert len(page.entries) == page.head.position
            assert page.entries[-1].link == page.head.link
            assert page.head.position % 2 == 1
        writing.result()
    assert store.log.head().position == 401
