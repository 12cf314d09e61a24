"""Revocations as facts: they only grow, and repeating one changes nothing."""

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
    appended = store.deny_token(TOKEN, LATER)
    (entry,) = entries_of(store)
    assert entry.change == TokenDenied(token_id=TOKEN, deny_until=LATER)
    assert appended.changes == ((entry.change, entry.link),)
    assert appended.revision.position == entry.position


@pytest.mark.parametrize("again", [LATER, SOON], ids=["as long", "shorter"])
def test_denying_again_appends_nothing_and_returns_the_place_that_holds_it(
    store: Store, again: datetime
) -> None:
    first = store.deny_token(TOKEN, LATER)
    deny(store, 2)
    before = store.head()
    second = store.deny_token(TOKEN, again)
    assert second == first
    assert store.head() == before


def test_a_longer_denial_is_a_new_entry(store: Store) -> None:
    first = store.deny_token(TOKEN, LATER)
    second = store.deny_token(TOKEN, MUCH_LATER)
    assert second.revision.position == first.revision.position + 1
    assert [c for c, _ in second.changes] == [TokenDenied(token_id=TOKEN, deny_until=MUCH_LATER)]
    assert store.deny_token(TOKEN, LATER) == second


def test_a_denial_that_has_passed_is_forgotten_and_can_be_made_anew(store: Store, clock: FakeClock) -> None:
    first = store.deny_token(TOKEN, SOON)
    clock.advance(timedelta(days=3))
    until = clock.now() + timedelta(hours=1)
    second = store.deny_token(TOKEN, until)
    assert second.revision.position == first.revision.position + 1
    assert [c for c, _ in second.changes] == [TokenDenied(token_id=TOKEN, deny_until=until)]


def test_ending_a_session_is_one_entry_even_if_the_session_is_unknown(store: Store) -> None:
    appended = store.end_session(SESSION, deny_until=SOON, end_until=LATER)
    (entry,) = entries_of(store)
    assert entry.change == SessionEnded(session_id=SESSION, deny_until=SOON, end_until=LATER)
    assert appended.changes == ((entry.change, entry.link),)


def test_ending_again_appends_nothing_and_returns_the_place_that_holds_it(store: Store) -> None:
    first = store.end_session(SESSION, deny_until=LATER, end_until=MUCH_LATER)
    deny(store)
    before = store.head()
    assert store.end_session(SESSION, deny_until=LATER, end_until=MUCH_LATER) == first
    assert store.end_session(SESSION, deny_until=SOON, end_until=LATER) == first
    assert store.head() == before


def test_ending_a_session_is_extended_and_never_shortened(store: Store) -> None:
    """Each of the two times grows by itself."""
    store.end_session(SESSION, deny_until=SOON, end_until=MUCH_LATER)
    second = store.end_session(SESSION, deny_until=LATER, end_until=LATER)
    assert [c for c, _ in second.changes] == [
        SessionEnded(session_id=SESSION, deny_until=LATER, end_until=MUCH_LATER)
    ]
    assert store.end_session(SESSION, deny_until=LATER, end_until=MUCH_LATER) == second


def test_a_denial_and_an_ended_session_of_one_name_are_two_facts(store: Store) -> None:
    store.deny_token(TokenId("same"), LATER)
    store.end_session(SessionId("same"), deny_until=LATER, end_until=LATER)
    assert len(entries_of(store)) == 2


def test_no_generation_was_raised_at_first(store: Store) -> None:
    assert store.generations() == {}


@pytest.mark.parametrize("principal", [ALICE, EVERYONE, PrincipalId("a:b@c/d.e-f_g")])
def test_a_generation_rises_by_one_and_carries_the_link_of_its_entry(
    store: Store, principal: PrincipalId
) -> None:
    for number in (1, 2, 3):
        appended = store.raise_generation(principal, above=0, request_id=None)
        entry = entries_of(store)[-1]
        assert entry.change == GenerationRaised(principal=principal, number=number)
        assert appended.changes == ((entry.change, entry.link),)
        assert store.generations() == {principal: Generation(number=number, link=entry.link)}


def test_a_generation_is_raised_above_the_number_of_the_caller(store: Store) -> None:
    """After a failover a process may know a higher number than the store."""
    store.raise_generation(ALICE, above=41, request_id=None)
    assert store.generations()[ALICE].number == 42
    store.raise_generation(ALICE, above=7, request_id=None)
    assert store.generations()[ALICE].number == 43


def test_generations_of_principals_are_independent(store: Store) -> None:
    store.raise_generation(ALICE, above=0, request_id=None)
    store.raise_generation(EVERYONE, above=0, request_id=None)
    store.raise_generation(EVERYONE, above=0, request_id=None)
    assert {p: g.number for p, g in store.generations().items()} == {ALICE: 1, EVERYONE: 2}


def test_a_request_id_raises_once(store: Store) -> None:
    first = store.raise_generation(ALICE, above=0, request_id="request-1")
    store.raise_generation(ALICE, above=0, request_id="request-2")
    before = store.head()
    assert store.raise_generation(ALICE, above=5, request_id="request-1") == first
    assert store.head() == before
    assert store.generations()[ALICE].number == 2


def test_a_request_id_for_one_principal_does_not_count_for_another(store: Store) -> None:
    """Otherwise a client that repeats ids would get OK for a revocation that never happened."""
    store.raise_generation(ALICE, above=0, request_id="request-1")
    store.raise_generation(PrincipalId("billing"), above=0, request_id="request-1")
    assert {p: g.number for p, g in store.generations().items()} == {ALICE: 1, "billing": 1}


def test_a_request_id_is_remembered_for_a_day(store: Store, clock: FakeClock) -> None:
    first = store.raise_generation(ALICE, above=0, request_id="request-1")
    clock.advance(timedelta(hours=23, minutes=59))
    assert store.raise_generation(ALICE, above=0, request_id="request-1") == first
    clock.advance(timedelta(minutes=2))
    second = store.raise_generation(ALICE, above=0, request_id="request-1")
    assert second.revision.position == first.revision.position + 1


def test_generations_never_expire(store: Store, clock: FakeClock) -> None:
    store.raise_generation(ALICE, above=0, request_id=None)
    raised = store.generations()
    clock.advance(timedelta(days=3650))
    store.heartbeat("process-1")
    assert store.generations() == raised


def test_facts_are_the_same_for_another_instance(store: Store, backend: Backend) -> None:
    first = store.deny_token(TOKEN, LATER)
    raised = store.raise_generation(ALICE, above=0, request_id="request-1")
    other = backend.open()
    assert other.deny_token(TOKEN, SOON) == first
    assert other.raise_generation(ALICE, above=0, request_id="request-1") == raised
    assert other.generations() == store.generations()


def test_a_clock_that_was_ahead_for_hours_has_deleted_nothing(store: Store, clock: FakeClock) -> None:
    """Keys are deleted a day after their end, so that a clock which is corrected still finds them."""
    end = clock.now() + timedelta(minutes=15)
    store.create_session(a_session("s1", expire_time=end))
    store.deny_token(TokenId("t1"), end)
    store.end_session(SessionId("s2"), deny_until=end, end_until=end)
    store.raise_generation(PrincipalId("alice"), above=0, request_id="r1")
    assert store.consume("jti", end)
    before = store.head().position

    clock.advance(timedelta(hours=23))
    for _ in range(5):
        store.heartbeat("p")
    assert store.read_session(SessionId("s1")) is None, "by that clock it is over"
    assert not store.list_sessions(PrincipalId("u_1"))
    clock.advance(timedelta(hours=-23))

    assert store.read_session(SessionId("s1")) is not None
    assert [s.session_id for s in store.list_sessions(PrincipalId("u_1"))] == ["s1"]
    assert not store.consume("jti", end)
    store.deny_token(TokenId("t1"), end)
    store.end_session(SessionId("s2"), deny_until=end, end_until=end)
    store.raise_generation(PrincipalId("alice"), above=0, request_id="r1")
    assert store.head().position == before, "each of them is known, and only found"


def test_a_consumed_key_may_be_used_again_when_its_time_is_over(store: Store, clock: FakeClock) -> None:
    """Its key lies there for a day more, and decides nothing."""
    assert store.consume("jti", clock.now() + timedelta(minutes=1))
    clock.advance(timedelta(minutes=1))
    assert store.consume("jti", clock.now() + timedelta(minutes=1))
    assert not store.consume("jti", clock.now() + timedelta(minutes=1))
