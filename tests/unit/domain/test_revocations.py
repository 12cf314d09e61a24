"""Applying the change log to the revocations in memory: entries may come in any order, any number of times.

Denials are extended and generations raised, never the reverse.
"""

import gc
import string
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.ids import EVERYONE, Link, PrincipalId, SessionId, TokenId, new_token_id
from identity_service.domain.log import (
    NEVER_RAISED,
    Change,
    Fact,
    Generation,
    GenerationRaised,
    RecordChanged,
    RecordKind,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.revocations import Denylist, Revocations, first_raised, is_ahead, newest
from identity_service.domain.tokens import AccessToken, Actor
from tests.unit.domain.samples import START, a_token

ALICE = PrincipalId("u_alice")
MINUTE = timedelta(minutes=1)
Entry = tuple[Change, Link]


def generation(number: int, link: str = "l") -> Generation:
    return Generation(number=number, link=Link(link))


def folded(entries: Sequence[Entry]) -> Revocations:
    revocations = Revocations()
    for change, link in entries:
        revocations.apply(change, link)
    return revocations


# The denylist.


def test_an_id_is_denied_from_the_moment_it_is_added() -> None:
    denylist = Denylist()
    assert "a" not in denylist
    denylist.add("a", START)
    assert "a" in denylist
    assert None not in denylist


@pytest.mark.parametrize("seconds", [0, 1, 29, 59])
def test_a_denial_lasts_at_least_as_long_as_asked_and_is_then_forgotten(seconds: int) -> None:
    until = START + timedelta(seconds=seconds)
    denylist = Denylist()
    denylist.add("a", until)
    assert denylist.evict(until) == 0
    assert "a" in denylist
    assert denylist.evict(until + 2 * MINUTE) == 1
    assert "a" not in denylist


@pytest.mark.parametrize("order", [(5, 9), (9, 5), (5, 9, 5), (9, 5, 5), (5, 5, 9)])
def test_a_denial_is_extended_and_never_shortened(order: tuple[int, ...]) -> None:
    denylist = Denylist()
    for minutes in order:
        denylist.add("a", START + minutes * MINUTE)
    assert denylist.evict(START + 8 * MINUTE) == 0
    assert "a" in denylist
    assert denylist.evict(START + 11 * MINUTE) == 1
    assert "a" not in denylist


@pytest.mark.parametrize("count", [255, 256, 257, 1000])
def test_however_many_end_together_all_of_them_are_forgotten(count: int) -> None:
    denylist = Denylist()
    for number in range(count):
        denylist.add(f"ends-{number}", START + MINUTE)
        denylist.add(f"stays-{number}", START + 9 * MINUTE)
    assert denylist.evict(START + 5 * MINUTE) == count
    assert {id_ for id_, _ in denylist.items()} == {f"stays-{number}" for number in range(count)}


def test_a_long_denylist_adds_no_objects_that_the_garbage_collector_visits() -> None:
    """Each full garbage collection would visit such objects, and the process answers nothing meanwhile."""
    denylist = Denylist()
    gc.collect()
    before = len(gc.get_objects())
    for number in range(10_000):
        denylist.add(f"walked-{number}", START + number % 60 * MINUTE)
    assert (len(gc.get_objects()) - before < 300, len(denylist)) == (True, 10_000)


def test_an_id_that_was_extended_is_not_forgotten_with_those_that_were_not() -> None:
    denylist = Denylist()
    for id_ in ("kept", "dropped"):
        denylist.add(id_, START + MINUTE)
    denylist.add("kept", START + 10 * MINUTE)
    assert denylist.evict(START + 5 * MINUTE) == 1
    assert ("kept" in denylist, "dropped" in denylist, len(denylist)) == (True, False, 1)


def test_an_id_that_was_forgotten_can_be_denied_again() -> None:
    denylist = Denylist()
    denylist.add("a", START)
    denylist.evict(START + 5 * MINUTE)
    denylist.add("a", START)
    assert "a" in denylist
    assert denylist.evict(START + 5 * MINUTE) == 1
    assert len(denylist) == 0


def test_denials_of_one_minute_share_one_object_for_it() -> None:
    """If each of a million denials had a number of its own, they would take 32 MB more."""
    denylist = Denylist()
    for number in range(100):
        denylist.add(str(number), START + timedelta(seconds=number % 60))
    assert len({id(minute) for minute in denylist.until.values()}) <= 2


@given(st.sets(st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=128)))
def test_the_denylist_returns_the_ids_that_were_denied(ids: set[str]) -> None:
    denylist = Denylist()
    for id_ in ids:
        denylist.add(id_, START)
    assert {id_ for id_, _ in denylist.items()} == ids
    assert len(denylist) == len(ids)


def test_ids_that_a_caller_has_chosen_to_collide_do_not() -> None:
    """Python hashes an integer modulo 2**61 - 1.

    A caller can therefore choose ids whose plain integers have the same hash; the denylist must not become
    slow by them.
    """
    chosen = []
    for number in range(1000):
        first = format(number, "061b").translate({ord("0"): "a", ord("1"): "b"})
        chosen.append(first + first.translate({ord("a"): "b", ord("b"): "a"}))
    assert len({hash(int.from_bytes(id_.encode(), "little")) for id_ in chosen}) == 1

    denylist = Denylist()
    for id_ in chosen:
        denylist.add(id_, START)

    assert len({hash(number) for number in denylist.until}) == 1000


def test_an_id_of_this_service_takes_less_memory_than_its_text() -> None:
    """As an integer an id takes 48 bytes instead of 80, since the allocator rounds up to 16 bytes."""
    denylist = Denylist()
    for _ in range(100):
        denylist.add(new_token_id(), START)
    assert max(sys.getsizeof(number) for number in denylist.until) <= 48


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), max_size=30), st.integers(0, 25))
def test_a_denial_that_has_not_ended_survives_an_eviction(added: list[tuple[str, int]], now: int) -> None:
    denylist = Denylist()
    for id_, minutes in added:
        denylist.add(id_, START + minutes * MINUTE)
    denylist.evict(START + now * MINUTE)
    latest = {id_: max(m for i, m in added if i == id_) for id_, _ in added}
    assert {id_ for id_ in latest if id_ in denylist} == {id_ for id_, m in latest.items() if m >= now}


# The fold.

IDS = st.sampled_from("abc")
TIMES = st.integers(0, 5).map(lambda m: START + m * MINUTE)
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(TokenDenied, token_id=IDS.map(TokenId), deny_until=TIMES),
    st.builds(SessionEnded, session_id=IDS.map(SessionId), deny_until=TIMES, end_until=TIMES),
    st.builds(GenerationRaised, principal=IDS.map(PrincipalId), number=st.integers(1, 4)),
    st.builds(RecordChanged, kind=st.sampled_from(RecordKind), id=IDS),
)
ENTRIES = st.lists(st.tuples(CHANGES, st.sampled_from("pqrs").map(Link)), max_size=12)


@given(data=st.data(), entries=ENTRIES)
def test_any_order_and_any_repetition_of_the_same_entries_give_the_same_answers(
    data: st.DataObject, entries: list[Entry]
) -> None:
    more = data.draw(st.lists(st.sampled_from(entries), max_size=6)) if entries else []
    repeated = data.draw(st.permutations([*entries, *more]))
    once, again = folded(entries), folded(repeated)
    assert once.generations == again.generations
    assert dict(once.denylist.items()) == dict(again.denylist.items())
    for minutes in range(8):
        assert once.denylist.evict(START + minutes * MINUTE) == again.denylist.evict(START + minutes * MINUTE)
        assert [id_ in once.denylist for id_ in "abc"] == [id_ in again.denylist for id_ in "abc"]


def test_a_changed_record_revokes_nothing() -> None:
    revocations = folded([(RecordChanged(kind=RecordKind.USER, id="u_alice"), Link("l"))])
    assert revocations.why_revoked(a_token()) is None
    assert (len(revocations.denylist), revocations.generations) == (0, {})


# Generations.


@pytest.mark.parametrize(
    ("current", "held", "raised"),
    [
        (generation(1), None, True),
        (generation(1), generation(1), False),
        (generation(2), generation(1), True),
        (generation(1), generation(2), False),
        (generation(1, "p"), generation(1, "q"), True),
        (generation(1, "p"), generation(2, "q"), False),
    ],
)
def test_a_generation_is_raised_over_a_lower_number_or_another_link(
    current: Generation, held: Generation | None, raised: bool
) -> None:
    assert current.is_raised_over(held) is raised


def test_a_generation_is_raised_and_never_lowered() -> None:
    for order in permutations([generation(1, "z"), generation(2, "a"), generation(3, "m")]):
        revocations = Revocations()
        for each in order:
            revocations.raise_to(ALICE, each)
        assert revocations.generations == {ALICE: generation(3, "m")}


@pytest.mark.parametrize("links", [*permutations("pq"), *permutations("pqr")])
def test_two_raises_to_one_number_refuse_the_tokens_issued_under_either(links: tuple[str, ...]) -> None:
    """After a failover, the log had two histories: each raise revoked earlier tokens of the other one."""
    revocations = Revocations()
    for link in (*links, *links):
        revocations.raise_to(ALICE, generation(3, link))
    for link in links:
        token = a_token(generations={ALICE: generation(3, link)})
        assert revocations.why_revoked(token) is not None
    assert revocations.why_revoked(a_token(generations=revocations.current(ALICE))) is None


def test_the_next_raise_repairs_two_raises_to_one_number() -> None:
    entries: list[Entry] = [
        (GenerationRaised(principal=ALICE, number=3), Link("p")),
        (GenerationRaised(principal=ALICE, number=3), Link("q")),
        (GenerationRaised(principal=ALICE, number=4), Link("r")),
    ]
    for order in permutations(entries):
        assert folded(order).generations == {ALICE: generation(4, "r")}


# A store that was restored by hand: its history is another one.


def test_raises_of_two_histories_refuse_the_tokens_of_both_until_the_next_raise() -> None:
    revocations = Revocations()
    revocations.raise_to(ALICE, generation(5, "lost"))
    revocations.begin_history({ALICE: generation(4, "new")})
    for held in (generation(5, "lost"), generation(4, "new")):
        assert revocations.why_revoked(a_token(generations={ALICE: held})) is not None

    revocations.raise_to(ALICE, generation(6, "repaired"))
    assert revocations.generations == {ALICE: generation(6, "repaired")}


def test_a_raise_in_the_new_history_refuses_tokens_of_the_lost_one() -> None:
    """The restored store lacks the raise to 5.

    It gets a raise to 1 before this process has repaired the number.
    """
    revocations = Revocations()
    revocations.raise_to(ALICE, generation(5, "lost"))
    revocations.begin_history({})
    token = a_token(generations={ALICE: generation(5, "lost")})
    assert revocations.why_revoked(token) is None

    revocations.raise_to(ALICE, generation(1, "new"))
    assert revocations.why_revoked(token) is not None


@pytest.mark.parametrize("table", [{}, {ALICE: generation(4, "d")}])
def test_a_generation_that_stands_in_the_log_is_of_this_history(table: dict[PrincipalId, Generation]) -> None:
    """The process reads the earlier raises of the log first.

    The store's table of generations may lack the row, or have an older one.
    """
    revocations = Revocations()
    revocations.raise_to(ALICE, generation(5, "e"))
    revocations.begin_history(table)
    for number, link in enumerate("abcde", 1):
        revocations.raise_to(ALICE, generation(number, link))
    assert revocations.generations == {ALICE: generation(5, "e")}
    revocations.raise_to(ALICE, generation(3, "c"))
    assert revocations.generations == {ALICE: generation(5, "e")}


def test_a_raise_while_the_table_is_read_is_neither_doubted_nor_lowered() -> None:
    revocations = Revocations()
    revocations.raise_to(ALICE, generation(5, "lost"))
    before = dict(revocations.generations)
    revocations.raise_to(ALICE, generation(6, "own"))
    revocations.begin_history({ALICE: generation(4, "new")}, before)
    assert revocations.generations == {ALICE: generation(6, "own")}


def test_a_raise_that_the_new_history_lacked_refuses_tokens_issued_there_under_a_higher_number() -> None:
    """An operator restored an older copy, revoked everything, and then restored the first store again."""
    revocations = Revocations()
    for raised in (generation(3, "common"), generation(4, "acknowledged")):
        revocations.raise_to(ALICE, raised)
    revocations.begin_history({ALICE: generation(5, "first")})
    for raised in (generation(3, "common"), generation(4, "unknown"), generation(5, "first")):
        revocations.raise_to(ALICE, raised)
    token = a_token(generations={ALICE: generation(5, "first")})
    assert revocations.why_revoked(token) is not None

    revocations.begin_history({ALICE: generation(5, "first")})
    assert revocations.why_revoked(token) is not None
    revocations.raise_to(ALICE, generation(6, "repaired"))
    assert revocations.generations == {ALICE: generation(6, "repaired")}


def test_a_raise_above_a_known_number_is_not_doubted() -> None:
    revocations = Revocations()
    revocations.raise_to(ALICE, generation(2, "b"))
    for _ in range(2):
        revocations.begin_history({ALICE: generation(3, "c")})
        for number, link in enumerate("abc", 1):
            revocations.raise_to(ALICE, generation(number, link))
        assert revocations.generations == {ALICE: generation(3, "c")}


def test_a_generation_that_the_store_has_too_is_not_doubted() -> None:
    revocations = Revocations()
    revocations.raise_to(ALICE, generation(2, "b"))
    revocations.begin_history({ALICE: generation(2, "b"), EVERYONE: generation(1, "x")})
    revocations.raise_to(ALICE, generation(1, "a"))
    assert revocations.generations == {ALICE: generation(2, "b"), EVERYONE: generation(1, "x")}


def test_once_the_log_was_read_lower_generations_are_no_longer_compared() -> None:
    revocations = Revocations()
    revocations.raise_to(ALICE, generation(2, "b"))
    revocations.begin_history({ALICE: generation(3, "c")})
    revocations.history_is_read()
    assert not revocations._overtaken
    assert revocations.generations == {ALICE: generation(3, "c")}


@pytest.mark.parametrize(
    ("known", "held", "ahead"),
    [
        ({}, {}, False),
        ({}, {ALICE: NEVER_RAISED}, False),
        ({}, {ALICE: generation(1)}, True),
        ({ALICE: generation(1)}, {ALICE: generation(1)}, False),
        ({ALICE: generation(1)}, {ALICE: generation(2)}, True),
        ({ALICE: generation(2)}, {ALICE: generation(1)}, False),
        ({ALICE: generation(2)}, {ALICE: generation(2), EVERYONE: generation(1)}, True),
    ],
)
def test_a_token_is_ahead_that_names_a_higher_generation_than_is_known(
    known: dict[PrincipalId, Generation], held: dict[PrincipalId, Generation], ahead: bool
) -> None:
    revocations = Revocations()
    revocations.begin_history(known)
    assert is_ahead(revocations.generations, held) is ahead


def test_a_generation_with_two_links_survives_its_spelling_in_a_token() -> None:
    both = generation(3, "p").merged(generation(3, "q"))
    assert Generation.parse(str(both)) == both


def test_the_current_generations_leave_out_principals_that_were_never_raised() -> None:
    revocations = Revocations()
    assert revocations.current(EVERYONE, ALICE) == {}
    revocations.raise_to(ALICE, generation(2))
    assert revocations.current(EVERYONE, ALICE) == {ALICE: generation(2)}
    assert revocations.current(EVERYONE) == {}


def test_the_newest_of_two_tables_is_the_higher_of_each_principal() -> None:
    """A sign-in uses the higher generation of store and replica, and changes neither table."""
    store = {EVERYONE: generation(1), ALICE: generation(5)}
    replica = {ALICE: generation(4), PrincipalId("shop"): generation(2)}
    expected = {EVERYONE: generation(1), ALICE: generation(5), PrincipalId("shop"): generation(2)}
    assert newest(store, replica) == expected
    assert newest(replica, store) == expected
    assert store == {EVERYONE: generation(1), ALICE: generation(5)}


def test_a_session_is_below_a_generation_that_was_raised_since_its_sign_in() -> None:
    principals = frozenset({EVERYONE, ALICE})
    held = {ALICE: generation(1)}
    assert first_raised({}, principals, held) is None
    assert first_raised({ALICE: generation(1)}, principals, held) is None
    assert first_raised({PrincipalId("other"): generation(9)}, principals, held) is None
    assert first_raised({ALICE: generation(2)}, principals, held) == ALICE
    assert first_raised({EVERYONE: generation(1), ALICE: generation(1)}, principals, held) == EVERYONE


# The questions that Verify asks.

ACTED = a_token(
    actors=(
        Actor(subject=PrincipalId("actor"), client_id=PrincipalId("actor-client")),
        Actor(subject=PrincipalId("actor-of-actor")),
    ),
    generations={PrincipalId("unnamed"): generation(1)},
)
"""A token with an actor, so that each kind of principal occurs.

An entry of `gen` also names a principal that is neither its subject, client nor actor."""


def _raising(principal: str, number: int = 1) -> Callable[[Revocations], None]:
    return lambda r: r.apply(GenerationRaised(principal=PrincipalId(principal), number=number), Link("new"))


LEVELS: dict[str, Callable[[Revocations], None]] = {
    "token": lambda r: r.apply(TokenDenied(token_id=ACTED.token_id, deny_until=START), Link("1")),
    "session": lambda r: r.apply(
        SessionEnded(session_id=SessionId("session"), deny_until=START, end_until=START), Link("1")
    ),
    "subject": _raising("u_alice"),
    "client": _raising("shop"),
    "actor": _raising("actor"),
    "actor's client": _raising("actor-client"),
    "actor of the actor": _raising("actor-of-actor"),
    "whole service": _raising("*"),
    "entry of gen": _raising("unnamed", 2),
}


def test_a_token_is_not_revoked_while_nothing_of_it_is() -> None:
    others = [_raising("somebody"), _raising("elsewhere", 7)]
    revocations = Revocations()
    assert revocations.why_revoked(ACTED) is None
    for revoke in others:
        revoke(revocations)
    revocations.apply(TokenDenied(token_id=TokenId("other"), deny_until=START), Link("2"))
    assert revocations.why_revoked(ACTED) is None


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_alone_revokes(level: str) -> None:
    revocations = Revocations()
    LEVELS[level](revocations)
    assert revocations.why_revoked(ACTED) is not None


@pytest.mark.parametrize(("first", "second"), list(permutations(LEVELS, 2)))
def test_no_level_hides_another_in_either_order(first: str, second: str) -> None:
    """After a sign-in under the first raise, the second raise revokes the token, and so do both together."""
    revocations = Revocations()
    LEVELS[first](revocations)
    LEVELS[second](revocations)
    assert revocations.why_revoked(ACTED) is not None
    only_second = Revocations()
    LEVELS[second](only_second)
    later = a_token(
        token_id=ACTED.token_id,
        actors=ACTED.actors,
        generations={**ACTED.generations, **_generations_after(first)},
    )
    assert only_second.why_revoked(later) is not None


def _generations_after(level: str) -> dict[PrincipalId, Generation]:
    revocations = Revocations()
    LEVELS[level](revocations)
    return dict(revocations.generations)


@pytest.mark.parametrize("level", [name for name in LEVELS if name not in {"token", "session"}])
def test_a_token_issued_after_the_raise_is_good(level: str) -> None:
    """No clocks are compared: the token names the generation under which it was issued."""
    revocations = Revocations()
    LEVELS[level](revocations)
    after: AccessToken = a_token(
        actors=ACTED.actors, generations={**ACTED.generations, **revocations.current(*ACTED.principals)}
    )
    assert revocations.why_revoked(after) is None


def test_a_token_without_a_session_is_not_revoked_by_the_end_of_one() -> None:
    revocations = Revocations()
    LEVELS["session"](revocations)
    assert revocations.why_revoked(a_token(session_id=None)) is None


def test_the_facts_for_a_repair_are_those_that_were_applied() -> None:
    facts: list[Fact] = [
        TokenDenied(token_id=TokenId("token"), deny_until=START),
        SessionEnded(session_id=SessionId("session"), deny_until=START, end_until=START + MINUTE),
        GenerationRaised(principal=ALICE, number=1, origin=Link("raised")),
    ]

    found = list(folded([(fact, Link("entry")) for fact in facts]).facts())

    assert len(found) == len(facts)
    assert all(fact in found for fact in facts)


def test_the_facts_of_the_past_are_not_repaired() -> None:
    past = SessionEnded(session_id=SessionId("session"), deny_until=START, end_until=START + MINUTE)
    revocations = folded([(past, Link("entry"))])

    revocations.evict(START + 2 * MINUTE)

    assert list(revocations.facts()) == []
