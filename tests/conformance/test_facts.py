"""Revocations as facts: a fact is only ever extended, and repeating a revocation changes nothing."""

from datetime import datetime, timedelta

import pytest

from identity_service.domain.ids import EVERYONE, PrincipalId, SessionId, TokenId
from identity_service.domain.log import Generation, GenerationRaised, SessionEnded, TokenDenied
from identity_service.domain.store import Store
from tests.conformance.backends import Backend
from tests.conformance.samples import LATER, MUCH_LATER, SOON, a_session, deny, entries_of
from tests.fakes.clocks import FakeClock

TOKEN = TokenId("token-1")
SESSION = SessionId("session-1")
ALICE = PrincipalId("u_1")


def test_a_denial_is_one_entry_of_the_log(store: Store) -> None:
    appended = store.facts.deny_token(TOKEN, LATER)
    (entry,) = entries_of(store)
    assert entry.change == TokenDenied(token_id=TOKEN, deny_until=LATER)
    assert appended.changes == ((entry.change, entry.link),)
    assert appended.revision.position == entry.position


@pytest.mark.parametrize("again", [LATER, SOON], ids=["as long", "shorter"])
def test_denying_again_appends_nothing_and_returns_the_place_that_holds_it(
    store: Store, again: datetime
) -> None:
    first = store.facts.deny_token(TOKEN, LATER)
    deny(store, 2)
    before = store.log.head()
    second = store.facts.deny_token(TOKEN, again)
    assert second == first
    assert store.log.head() == before


def test_a_longer_denial_is_a_new_entry(store: Store) -> None:
    first = store.facts.deny_token(TOKEN, LATER)
    second = store.facts.deny_token(TOKEN, MUCH_LATER)
    assert second.revision.position == first.revision.position + 1
    assert [c for c, _ in second.changes] == [TokenDenied(token_id=TOKEN, deny_until=MUCH_LATER)]
    assert store.facts.deny_token(TOKEN, LATER) == second


def test_a_denial_that_has_passed_is_forgotten_and_can_be_made_anew(store: Store, clock: FakeClock) -> None:
    first = store.facts.deny_token(TOKEN, SOON)
    clock.advance(timedelta(days=3))
    until = clock.now() + timedelta(hours=1)
    second = store.facts.deny_token(TOKEN, until)
    assert second.revision.position == first.revision.position + 1
    assert [c for c, _ in second.changes] == [TokenDenied(token_id=TOKEN, deny_until=until)]


def test_ending_a_session_is_one_entry_even_if_the_session_is_unknown(store: Store) -> None:
    appended = store.facts.end_session(SESSION, deny_until=SOON, end_until=LATER)
    (entry,) = entries_of(store)
    assert entry.change == SessionEnded(session_id=SESSION, deny_until=SOON, end_until=LATER)
    assert appended.changes == ((entry.change, entry.link),)


def test_ending_again_appends_nothing_and_returns_the_place_that_holds_it(store: Store) -> None:
    first = store.facts.end_session(SESSION, deny_until=LATER, end_until=MUCH_LATER)
    deny(store)
    before = store.log.head()
    assert store.facts.end_session(SESSION, deny_until=LATER, end_until=MUCH_LATER) == first
    assert store.facts.end_session(SESSION, deny_until=SOON, end_until=LATER) == first
    assert store.log.head() == before


def test_ending_a_session_is_extended_and_never_shortened(store: Store) -> None:
    """The times `deny_until` and `end_until` are extended independently of each other."""
    store.facts.end_session(SESSION, deny_until=SOON, end_until=MUCH_LATER)
    second = store.facts.end_session(SESSION, deny_until=LATER, end_until=LATER)
    assert [c for c, _ in second.changes] == [
        SessionEnded(session_id=SESSION, deny_until=LATER, end_until=MUCH_LATER)
    ]
    assert store.facts.end_session(SESSION, deny_until=LATER, end_until=MUCH_LATER) == second


def test_a_denial_and_an_ended_session_of_one_name_are_two_facts(store: Store) -> None:
    store.facts.deny_token(TokenId("same"), LATER)
    store.facts.end_session(SessionId("same"), deny_until=LATER, end_until=LATER)
    assert len(entries_of(store)) == 2


def test_no_generation_was_raised_at_first(store: Store) -> None:
    assert store.log.generations() == {}


@pytest.mark.parametrize("principal", [ALICE, EVERYONE, PrincipalId("a:b@c/d.e-f_g")])
def test_a_generation_rises_by_one_and_carries_the_link_of_its_entry(
    store: Store, principal: PrincipalId
) -> None:
    for number in (1, 2, 3):
        appended = store.facts.raise_generation(principal, above=0, request_id=None)
        entry = entries_of(store)[-1]
        assert entry.change == GenerationRaised(principal=principal, number=number)
        assert appended.changes == ((entry.change, entry.link),)
        assert store.log.generations() == {principal: Generation(number=number, link=entry.link)}


def test_a_generation_is_raised_above_the_number_of_the_caller(store: Store) -> None:
    """After a failover a process may know a higher number than the store."""
    store.facts.raise_generation(ALICE, above=41, request_id=None)
    assert store.log.generations()[ALICE].number == 42
    store.facts.raise_generation(ALICE, above=7, request_id=None)
    assert store.log.generations()[ALICE].number == 43


def test_generations_of_principals_are_independent(store: Store) -> None:
    store.facts.raise_generation(ALICE, above=0, request_id=None)
    store.facts.raise_generation(EVERYONE, above=0, request_id=None)
    store.facts.raise_generation(EVERYONE, above=0, request_id=None)
    assert {p: g.number for p, g in store.log.generations().items()} == {ALICE: 1, EVERYONE: 2}


def test_a_request_id_raises_once(store: Store) -> None:
    first = store.facts.raise_generation(ALICE, above=0, request_id="request-1")
    store.facts.raise_generation(ALICE, above=0, request_id="request-2")
    before = store.log.head()
    assert store.facts.raise_generation(ALICE, above=5, request_id="request-1") == first
    assert store.log.head() == before
    assert store.log.generations()[ALICE].number == 2


def test_a_request_id_for_one_principal_does_not_count_for_another(store: Store) -> None:
    """If it counted, a client that reuses request ids would get OK for a revocation that never happened."""
    store.facts.raise_generation(ALICE, above=0, request_id="request-1")
    store.facts.raise_generation(PrincipalId("billing"), above=0, request_id="request-1")
    assert {p: g.number for p, g in store.log.generations().items()} == {ALICE: 1, "billing": 1}


def test_a_request_id_is_remembered_for_a_day(store: Store, clock: FakeClock) -> None:
    first = store.facts.raise_generation(ALICE, above=0, request_id="request-1")
    clock.advance(timedelta(hours=23, minutes=59))
    assert store.facts.raise_generation(ALICE, above=0, request_id="request-1") == first
    clock.advance(timedelta(minutes=2))
    second = store.facts.raise_generation(ALICE, above=0, request_id="request-1")
    assert second.revision.position == first.revision.position + 1


def test_generations_never_expire(store: Store, clock: FakeClock) -> None:
    store.facts.raise_generation(ALICE, above=0, request_id=None)
    raised = store.log.generations()
    clock.advance(timedelta(days=3650))
    store.log.heartbeat("process-1")
    assert store.log.generations() == raised


def test_facts_are_the_same_for_another_instance(store: Store, backend: Backend) -> None:
    first = store.facts.deny_token(TOKEN, LATER)
    raised = store.facts.raise_generation(ALICE, above=0, request_id="request-1")
    other = backend.open()
    assert other.facts.deny_token(TOKEN, SOON) == first
    assert other.facts.raise_generation(ALICE, above=0, request_id="request-1") == raised
    assert other.log.generations() == store.log.generations()


def test_a_clock_that_was_ahead_for_hours_has_deleted_nothing(store: Store, clock: FakeClock) -> None:
    """The store deletes keys a day after they expire, so a corrected clock still finds them."""
    end = clock.now() + timedelta(minutes=15)
    store.sessions.create(a_session("s1", expire_time=end))
    store.facts.deny_token(TokenId("t1"), end)
    store.facts.end_session(SessionId("s2"), deny_until=end, end_until=end)
    store.facts.raise_generation(PrincipalId("alice"), above=0, request_id="r1")
    assert store.single_use.consume("jti", end)
    before = store.log.head().position

    clock.advance(timedelta(hours=23))
    for _ in range(5):
        store.log.heartbeat("p")
    assert store.sessions.read(SessionId("s1")) is None, "by that clock it is over"
    assert not store.sessions.list_of(PrincipalId("u_1"))
    clock.advance(timedelta(hours=-23))

    assert store.sessions.read(SessionId("s1")) is not None
    assert [s.session_id for s in store.sessions.list_of(PrincipalId("u_1"))] == ["s1"]
    assert not store.single_use.consume("jti", end)
    store.facts.deny_token(TokenId("t1"), end)
    store.facts.end_session(SessionId("s2"), deny_until=end, end_until=end)
    store.facts.raise_generation(PrincipalId("alice"), above=0, request_id="r1")
    assert store.log.head().position == before, "each of them is known, and only found"


def test_a_consumed_key_may_be_used_again_when_its_time_is_over(store: Store, clock: FakeClock) -> None:
    """The store still has the key for a day after it expired, but ignores it."""
    assert store.single_use.consume("jti", clock.now() + timedelta(minutes=1))
    clock.advance(timedelta(minutes=1))
    assert store.single_use.consume("jti", clock.now() + timedelta(minutes=1))
    assert not store.single_use.consume("jti", clock.now() + timedelta(minutes=1))
