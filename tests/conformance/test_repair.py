"""Repair: a replaced log gets a new epoch, and the facts that processes know from the old log."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from identity_service.domain.errors import NoSigningKeyError, StoreReplacedError, StoreUninitializedError
from identity_service.domain.ids import NO_LINK, Epoch, Link, SessionId, TokenId, new_epoch
from identity_service.domain.log import (
    Fact,
    Generation,
    GenerationRaised,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.store import Store
from identity_service.replication.maintenance import retention_for
from tests.conformance.backends import Backend
from tests.conformance.replicas import ALICE, OWN_WRITES, RETENTION, follow
from tests.conformance.samples import LATER, MUCH_LATER, deny, entries_of
from tests.fakes.clocks import FakeClock

FACTS: list[Fact] = [
    TokenDenied(token_id=TokenId("t1"), deny_until=LATER),
    SessionEnded(session_id=SessionId("s1"), deny_until=LATER, end_until=MUCH_LATER),
    GenerationRaised(principal=ALICE, number=3, origin=Link("three")),
]


def changes(store: Store) -> list[object]:
    return [entry.change for entry in entries_of(store)]


# renew


def test_only_the_first_new_epoch_is_set(store: Store, backend: Backend) -> None:
    deny(store, 2)
    found = store.log.head()
    assert store.log.renew(found.epoch, Epoch("a1")) == "a1"
    assert backend.open().log.renew(found.epoch, Epoch("b2")) == "a1"

    head = store.log.head()
    assert (head.epoch, head.position, head.link, head.floor) == ("a1", 2, found.link, 2)
    assert len(entries_of(store)) == 2


def test_under_a_new_epoch_processes_of_the_old_one_write_nothing(store: Store) -> None:
    store.log.renew(store.log.head().epoch, new_epoch())
    with pytest.raises(StoreReplacedError):
        deny(store)
    with pytest.raises(StoreReplacedError):
        store.log.repair(FACTS)
    assert entries_of(store) == ()


def test_only_a_process_that_followed_an_emptied_store_gives_it_an_epoch(
    store: Store, backend: Backend
) -> None:
    deny(store, 3)
    backend.wipe()
    with pytest.raises(StoreUninitializedError):
        store.log.renew(Epoch("another"), new_epoch())
    assert store.log.renew(None, Epoch("fresh")) == "fresh"
    assert store.log.renew(None, Epoch("late")) == "fresh"
    store.log.adopt(Epoch("fresh"))
    deny(store)
    assert store.log.head().position - store.log.head().floor == 1


def test_a_log_whose_entries_are_lost_continues_at_the_position_of_its_head(
    store: Store, backend: Backend
) -> None:
    deny(store, 3)
    backend.lose_entries(1, rewind=False)
    assert not store.log.heartbeat("p").whole

    store.log.renew(store.log.head().epoch, Epoch("n1"))
    store.log.adopt(Epoch("n1"))
    assert store.log.heartbeat("p").whole
    deny(store)
    assert [entry.position for entry in entries_of(store)] == [1, 4]
    assert store.log.heartbeat("p").whole


# restore


def test_facts_that_are_absent_are_appended_once(store: Store, backend: Backend) -> None:
    assert store.log.repair(FACTS).absent == 3
    assert changes(store) == FACTS
    assert store.log.repair(FACTS).absent == 0
    assert backend.open().log.repair(FACTS).absent == 0
    assert len(entries_of(store)) == 3
    assert store.log.generations() == {ALICE: Generation(number=3, link=Link("three"))}


@pytest.mark.parametrize("known", [1, 2, 3])
def test_a_generation_of_another_history_is_raised_above_the_numbers_of_both(
    store: Store, known: int
) -> None:
    """Each of the two raises may have revoked tokens of the other history, so both numbers are used."""
    for _ in range(known):
        store.facts.raise_generation(ALICE, above=0, request_id=None)
    other = GenerationRaised(principal=ALICE, number=3, origin=Link("other"))

    assert store.log.repair([other]).absent == 1

    raised = store.log.generations()[ALICE]
    assert raised.number == 4
    assert raised.link not in ("other", NO_LINK)
    assert store.log.repair([other, other]).absent == 0
    assert entries_of(store)[-1].change == GenerationRaised(principal=ALICE, number=4)


def test_facts_whose_entries_are_lost_are_appended_again(store: Store, backend: Backend) -> None:
    """A fact in the state does not prove that the log has its entry.

    Raised generations need no entry, since processes read the table of generations separately.
    """
    store.log.repair(FACTS)
    backend.lose_entries(0, rewind=True)
    assert store.log.repair(FACTS).absent == 2
    assert changes(store) == FACTS[:2]


def test_a_log_is_rebuilt_however_often_one_process_has_done_so_before(store: Store) -> None:
    deny(store)

    for _ in range(150):
        store.log.rebuild()

    assert store.log.head().complete


def test_facts_stand_under_a_new_epoch_if_their_entries_do(store: Store) -> None:
    store.log.repair(FACTS)
    store.log.renew(store.log.head().epoch, Epoch("e2"))
    store.log.adopt(Epoch("e2"))
    assert store.log.repair(FACTS).absent == 0


def test_the_later_end_of_a_denial_wins(store: Store) -> None:
    store.facts.deny_token(TokenId("t1"), MUCH_LATER)
    store.facts.end_session(SessionId("s1"), deny_until=MUCH_LATER, end_until=LATER)
    assert store.log.repair(FACTS[:2]).absent == 1
    assert changes(store)[-1] == SessionEnded(
        session_id=SessionId("s1"), deny_until=MUCH_LATER, end_until=MUCH_LATER
    )


def test_a_denial_that_expired_a_day_ago_is_not_repaired(store: Store, clock: FakeClock) -> None:
    """A denial that expired less than a day ago is repaired, since the store's clock may be ahead."""
    clock.advance(LATER + timedelta(days=1) - clock.now())
    assert store.log.repair(FACTS[:1]).absent == 0
    clock.advance(timedelta(seconds=-1))
    assert store.log.repair(FACTS[:1]).absent == 1


def test_a_higher_generation_in_the_store_stands(store: Store) -> None:
    store.facts.raise_generation(ALICE, above=6, request_id=None)
    assert store.log.repair(FACTS[2:]).absent == 0
    assert store.log.generations()[ALICE].number == 7


def test_two_raises_to_one_number_make_the_next(store: Store) -> None:
    """Each of the two raises revoked tokens that were issued under the other one."""
    store.facts.raise_generation(ALICE, above=2, request_id=None)
    assert store.log.repair(FACTS[2:]).absent == 1
    raised = store.log.generations()[ALICE]
    assert raised.number == 4
    assert raised.link == store.log.head().link
    assert store.log.repair(FACTS[2:]).absent == 0


def test_a_caller_may_say_how_a_raise_will_be_known(store: Store) -> None:
    store.facts.raise_generation(ALICE, above=2, request_id=None, link=Link("three"))
    assert store.log.repair(FACTS[2:]).absent == 0


# trim


def test_only_entries_older_than_the_retention_are_trimmed(store: Store, clock: FakeClock) -> None:
    store.log.heartbeat("p", RETENTION)
    deny(store, 3)
    clock.advance(RETENTION - timedelta(seconds=1))
    deny(store, 2)
    assert store.log.trim(3) == 0
    clock.advance(timedelta(seconds=1))
    assert store.log.trim(4) == 0
    assert store.log.trim(3) == 3
    assert [entry.position for entry in entries_of(store)] == [4, 5]
    head = store.log.heartbeat("p")
    assert (head.floor, head.whole, head.position) == (3, True, 5)


def test_facts_that_still_count_are_appended_again_as_their_entries_are_trimmed(
    store: Store, clock: FakeClock
) -> None:
    store.log.heartbeat("p", RETENTION)
    deny(store, 3)
    store.facts.end_session(SessionId("s1"), deny_until=LATER, end_until=LATER)
    clock.advance(RETENTION)
    deny(store, 1)
    changes = [entry.change for entry in entries_of(store)[1:4]]
    keep = [change for change in changes if isinstance(change, TokenDenied | SessionEnded)]
    assert len(keep) == 3

    assert store.log.trim(4, keep) == 4

    assert [entry.position for entry in entries_of(store)] == [5, 6, 7, 8]
    assert [entry.change for entry in entries_of(store)[1:]] == keep
    head = store.log.heartbeat("p")
    assert (head.floor, head.whole, head.position) == (4, True, 8)


def test_facts_whose_entries_may_not_be_trimmed_yet_are_not_appended_again(store: Store) -> None:
    store.log.heartbeat("p", RETENTION)
    deny(store, 3)
    (first, *_) = entries_of(store)
    assert isinstance(first.change, TokenDenied)
    assert store.log.trim(1, [first.change]) == 0
    assert len(entries_of(store)) == 3


def test_nothing_is_trimmed_before_a_retention_was_written(store: Store, clock: FakeClock) -> None:
    deny(store, 3)
    clock.advance(timedelta(days=400))
    assert store.log.trim(2) == 0


def test_the_last_entry_is_never_forgotten(store: Store, clock: FakeClock) -> None:
    store.log.heartbeat("p", RETENTION)
    deny(store, 2)
    clock.advance(2 * RETENTION)
    assert store.log.trim(2) == 0
    assert store.log.trim(9) == 0
    assert store.log.trim(1) == 1


def test_the_retention_is_the_longest_that_was_ever_requested(store: Store, clock: FakeClock) -> None:
    store.log.heartbeat("p", 2 * RETENTION)
    assert store.log.heartbeat("q", RETENTION).retention == 2 * RETENTION
    deny(store, 2)
    clock.advance(RETENTION)
    assert store.log.trim(1) == 0


# all of it, as processes do it


SPOILS: dict[str, Callable[[Backend], None]] = {
    "shortened": lambda backend: backend.lose_entries(1, rewind=True),
    "emptied log, head and state kept": lambda backend: backend.lose_entries(0, rewind=False),
    "last entry gone": lambda backend: backend.lose_entries(2, rewind=False),
    "everything emptied": lambda backend: backend.wipe(),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_lost_facts_are_repaired_after_one_heartbeat_of_each_process(
    store: Store, backend: Backend, spoil: Callable[[Backend], None]
) -> None:
    store.log.repair(FACTS)
    first, second = follow(backend), follow(backend)
    spoil(backend)

    threads = [
        threading.Thread(target=lambda r=replica: (r.heartbeat("p"), r.maintenance.do()))
        for _, replica, _ in (first, second)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for _, replica, _ in (first, second):
        replica.heartbeat("p")
        replica.maintenance.do()
        assert replica.is_fresh()
    newcomer = follow(backend)[1]
    assert {"t1", "s1"} == {id_ for id_, _ in newcomer.revocations.denylist.items()}
    assert newcomer.revocations.generations[ALICE].number >= 3
    kept = [c for c in changes(backend.open()) if not isinstance(c, GenerationRaised)]
    assert len(kept) == 2, "each was repaired once"
    assert first[2].named("log_repaired") + second[2].named("log_repaired"), "the repair is reported"


def test_a_process_that_was_cut_off_repairs_the_facts_that_only_it_knew(
    store: Store, backend: Backend
) -> None:
    """The process resumes late, when the other processes have already followed the new log for a while."""
    store.log.repair(FACTS)
    late = follow(backend)
    store.facts.deny_token(TokenId("only-late"), LATER)
    late[1].catch_up()
    backend.lose_entries(1, rewind=True)
    early = follow(backend)
    deny(early[0], 5)

    late[1].heartbeat("p")
    late[1].maintenance.do()
    early[1].heartbeat("p")

    assert "only-late" in early[1].revocations.denylist
    assert "s1" in early[1].revocations.denylist


@pytest.mark.parametrize("overtaken", [True, False], ids=["its place is taken", "the log is shorter"])
@pytest.mark.parametrize("name", OWN_WRITES)
def test_own_writes_that_a_process_had_not_read_yet_are_repaired(
    store: Store, backend: Backend, name: str, overtaken: bool
) -> None:
    """The log matches all entries that any process has read, so only the writer can notice the loss."""
    deny(store, 2)
    (own, writer, event_log), (_, other, _) = follow(backend), follow(backend)
    writer.learn(OWN_WRITES[name](own))
    backend.lose_entries(2, rewind=True, generations=True)
    if overtaken:
        deny(store)

    writer.heartbeat("p")
    writer.maintenance.do()
    other.heartbeat("q")

    newcomer = follow(backend)[1]
    for replica in (other, newcomer):
        if name == "a raise":
            assert replica.revocations.generations[ALICE].number >= 1
        else:
            assert {"t1", "s1"} & {id_ for id_, _ in replica.revocations.denylist.items()}
    assert event_log.named("own_writes_lost") == [{"count": 1}]
    assert event_log.named("epoch_renewed") == []


def test_own_writes_that_were_read_are_not_sent_again(store: Store, backend: Backend) -> None:
    own, writer, event_log = follow(backend)
    for number in range(3):
        writer.learn(own.facts.deny_token(TokenId(f"t{number}"), LATER))
    writer.heartbeat("p")
    writer.learn(own.facts.deny_token(TokenId("t0"), LATER))
    writer.heartbeat("p")
    writer.heartbeat("p")
    writer.maintenance.do()
    assert event_log.named("own_writes_lost") == []
    assert store.log.head().position == 3


@pytest.mark.parametrize("name", OWN_WRITES)
def test_a_write_that_is_read_before_its_writer_remembers_it_is_not_lost(
    store: Store, backend: Backend, name: str
) -> None:
    """The thread that follows the log often reads the entry before the thread that wrote it has the reply."""
    own, writer, event_log = follow(backend)
    appended = OWN_WRITES[name](own)
    writer.catch_up()
    writer.learn(appended)
    deny(store)
    writer.heartbeat("p")
    writer.maintenance.do()

    assert event_log.events == []
    assert len(entries_of(store)) == 2, "nothing was sent again"


def test_a_raise_that_is_repeated_after_a_loss_is_not_lost(store: Store, backend: Backend) -> None:
    """The repeated raise returns the end of the log as its position, where a different entry lies."""
    own, writer, event_log = follow(backend)
    writer.learn(own.facts.raise_generation(ALICE, above=0, request_id="r"))
    deny(store)
    store.log.adopt(store.log.renew(store.log.head().epoch, new_epoch()))
    writer.heartbeat("p")
    writer.maintenance.do()
    writer.learn(own.facts.raise_generation(ALICE, above=0, request_id="r"))
    deny(store)
    writer.heartbeat("p")
    writer.maintenance.do()

    assert event_log.named("own_writes_lost") == []
    assert [entry.position for entry in entries_of(store)] == [1, 2, 3], "nothing was sent that was there"


@pytest.mark.parametrize("name", OWN_WRITES)
def test_a_write_that_a_replaced_log_acknowledged_is_sent_to_the_new_one(
    store: Store, backend: Backend, name: str
) -> None:
    """The process learns of its own write only after it has sent all other known facts to the new log."""
    deny(store)
    own, writer, event_log = follow(backend)
    appended = OWN_WRITES[name](own)
    backend.lose_entries(1, rewind=True, generations=True)
    backend.forget_denial(TokenId("t1"))
    backend.forget_end(SessionId("s1"))
    store.log.adopt(store.log.renew(store.log.head().epoch, new_epoch()))
    writer.heartbeat("p")
    writer.maintenance.do()
    assert len(entries_of(store)) == 1
    writer.learn(appended)
    writer.maintenance.do()

    (fact,) = (change for change, _ in appended.changes)
    newcomer = follow(backend)[1]
    assert fact in [without_origin(known) for known in newcomer.revocations.facts()] or (
        isinstance(fact, SessionEnded) and fact.session_id in newcomer.revocations.denylist
    )
    assert event_log.named("own_writes_lost") == []


def without_origin(fact: Fact) -> Fact:
    return replace(fact, origin=None) if isinstance(fact, GenerationRaised) else fact


def test_an_unconfirmed_fact_is_sent_until_the_store_confirms_it(
    store: Store, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, replica, event_log = follow(backend)
    replica.add_unconfirmed(FACTS[0])
    assert "t1" in replica.revocations.denylist, "denied here at once"

    monkeypatch.setattr(own.log, "repair", _fail)
    with pytest.raises(StoreReplacedError):
        replica.maintenance.do()
    assert changes(store) == []
    monkeypatch.undo()
    replica.maintenance.do()
    replica.maintenance.do()
    assert changes(store) == FACTS[:1]
    assert event_log.named("revocations_sent_again") == [{"count": 1}]


def test_a_replaced_log_that_cannot_be_read_yet_is_reported_once(store: Store, backend: Backend) -> None:
    """FLUSHALL deletes the signing keys too, and reading the new log fails until it has a key."""
    deny(store, 3)
    _, replica, event_log = follow(backend)
    keyless = [True]

    def on_records_changed(_: object) -> None:
        if keyless[0]:
            raise NoSigningKeyError("restore a backup")

    replica.subscribe(on_records_changed)
    backend.wipe()
    for _ in range(20):
        with pytest.raises(NoSigningKeyError):
            replica.catch_up()
    assert len(event_log.named("log_replaced")) == 1
    keyless[0] = False

    replica.catch_up()
    assert len(event_log.named("log_replaced")) == 1
    backend.wipe()
    replica.catch_up()
    assert len(event_log.named("log_replaced")) == 2, "another one is said"


def test_a_log_is_trimmed_only_by_a_process_that_has_held_it_for_the_retention(
    store: Store, backend: Backend, clock: FakeClock
) -> None:
    """The process measures the retention by its monotonic clock, whatever the clock of the store shows."""
    _, replica, _ = follow(backend)
    for number in range(5):  # of tokens that expired long ago by any clock
        store.facts.deny_token(TokenId(f"t{number}"), clock.now() - timedelta(hours=4))
    for _ in range(30):
        clock.advance(RETENTION / 20)
        replica.heartbeat("p")
        replica.maintenance.do()
    assert store.log.head().floor == 4

    newcomer = follow(backend)[1]
    newcomer.maintenance.do()
    assert newcomer.is_fresh()
    assert store.log.head().floor == 4


def test_the_retention_outlives_every_denial() -> None:
    lifetime, leeway = timedelta(hours=24), timedelta(seconds=10)
    assert retention_for(lifetime, leeway) > lifetime + 2 * leeway + timedelta(minutes=1)


def _fail(_: object) -> int:
    raise StoreReplacedError("another log")
