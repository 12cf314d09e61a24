"""Lists of sessions: their owners, their order and pages, and that they contain no ended session."""

import threading
from datetime import timedelta

import pytest

from identity_service.domain.ids import EVERYONE, Link, PrincipalId, SessionId
from identity_service.domain.log import Generation
from identity_service.domain.store import Store
from tests.conformance.samples import LATER, MUCH_LATER, a_session
from tests.fakes.clocks import FakeClock

ANA, BO, PORTAL = PrincipalId("u_ana"), PrincipalId("u_bo"), PrincipalId("portal")


def sign_in(
    store: Store, name: str, day: int, subject: PrincipalId = ANA, client: PrincipalId = PORTAL
) -> None:
    start = LATER + timedelta(days=day)
    store.sessions.create(
        a_session(
            name,
            subject=subject,
            client_id=client,
            generations={},
            auth_time=start,
            expire_time=start + timedelta(days=30),
        )
    )


def names(store: Store, owner: PrincipalId = ANA) -> list[str]:
    return [session.session_id for session in store.sessions.list_of(owner)]


def test_the_sessions_of_a_subject_and_of_a_client_the_newest_first(store: Store) -> None:
    sign_in(store, "s1", 1)
    sign_in(store, "s3", 3)
    sign_in(store, "s2", 2, subject=BO)
    sign_in(store, "s4", 4, client=PrincipalId("other"))

    assert names(store) == ["s4", "s3", "s1"]
    assert names(store, BO) == ["s2"]
    assert names(store, PORTAL) == ["s3", "s2", "s1"]
    assert names(store, PrincipalId("nobody")) == []


def test_a_session_whose_subject_is_its_client_is_listed_once(store: Store) -> None:
    sign_in(store, "s1", 1, subject=PORTAL, client=PORTAL)

    assert names(store, PORTAL) == ["s1"]


def test_a_listed_session_is_the_one_that_is_stored(store: Store) -> None:
    session = a_session("s1", subject=ANA, generations={})
    store.sessions.create(session)

    assert store.sessions.list_of(ANA) == [session]


def test_pages_show_every_session_once(store: Store) -> None:
    for day in range(7):
        sign_in(store, f"s{day}", day)
    seen: list[str] = []
    while page := store.sessions.list_of(ANA, before=seen[-1] if seen else "", limit=3):
        assert len(page) <= 3
        seen += [session.session_id for session in page]

    assert seen == [f"s{day}" for day in reversed(range(7))]


def test_sessions_of_one_moment_are_all_listed(store: Store) -> None:
    for number in range(5):
        sign_in(store, f"s{number}", 0)
    first = store.sessions.list_of(ANA, limit=2)
    rest = store.sessions.list_of(ANA, before=first[-1].session_id, limit=10)

    assert sorted(s.session_id for s in [*first, *rest]) == [f"s{number}" for number in range(5)]


def test_a_page_is_full_though_sessions_in_between_have_ended(store: Store) -> None:
    for day in range(12):
        sign_in(store, f"s{day}", day)
    for day in range(2, 11):
        store.facts.end_session(SessionId(f"s{day}"), deny_until=LATER, end_until=MUCH_LATER)

    assert [s.session_id for s in store.sessions.list_of(ANA, limit=3)] == ["s11", "s1", "s0"]
    assert names(store) == ["s11", "s1", "s0"]


def test_a_page_goes_on_after_a_session_that_has_ended_and_left_the_list(store: Store) -> None:
    """The session may leave the list between two pages, when another caller lists the sessions."""
    for day in range(6):
        sign_in(store, f"s{day}", day)
    first = store.sessions.list_of(ANA, limit=2)
    store.facts.end_session(first[-1].session_id, deny_until=LATER, end_until=MUCH_LATER)
    assert names(store) == ["s5", "s3", "s2", "s1", "s0"]

    rest = store.sessions.list_of(ANA, before=first[-1].session_id)

    assert [session.session_id for session in rest] == ["s3", "s2", "s1", "s0"]


def test_a_page_is_full_though_the_client_of_those_in_between_was_revoked(store: Store) -> None:
    sign_in(store, "s9", 9)
    for day in range(2, 9):
        sign_in(store, f"s{day}", day, client=PrincipalId("lost"))
    for day in range(2):
        sign_in(store, f"s{day}", day)
    store.facts.raise_generation(PrincipalId("lost"), above=0, request_id=None)

    assert [s.session_id for s in store.sessions.list_of(ANA, limit=2)] == ["s9", "s1"]
    assert [s.session_id for s in store.sessions.list_of(ANA, before="s9", limit=1)] == ["s1"]


@pytest.mark.parametrize("limit", [1, 100])
def test_no_page_is_empty_while_a_session_is_left_however_many_have_ended(store: Store, limit: int) -> None:
    """An empty page marks the end of the list: a caller that ends all sessions of a user stops there."""
    sign_in(store, "first", 0)
    for number in range(150):
        sign_in(store, f"s{number}", 1)
        store.facts.end_session(SessionId(f"s{number}"), deny_until=LATER, end_until=MUCH_LATER)
    sign_in(store, "last", 2)

    assert [s.session_id for s in store.sessions.list_of(ANA, before="last", limit=limit)] == ["first"]
    assert names(store) == ["last", "first"]


def test_a_session_is_not_listed_once_any_principal_it_began_under_was_raised(store: Store) -> None:
    """A session may depend on the generation of a principal that is neither its subject nor its client."""
    other = PrincipalId("other")
    held = {other: Generation(number=1, link=Link("before"))}
    store.sessions.create(a_session("s1", subject=ANA, generations=held))
    store.facts.raise_generation(other, above=1, request_id=None)

    assert names(store) == []


def test_a_page_that_begins_at_a_session_of_another_user_never_shows_it(store: Store) -> None:
    sign_in(store, "s1", 1)
    sign_in(store, "s2", 2, subject=BO, client=PrincipalId("other"))
    sign_in(store, "s3", 3)

    assert [session.session_id for session in store.sessions.list_of(ANA, before="s2")] == ["s1"]
    assert names(store) == ["s3", "s1"]


def test_a_page_that_begins_at_an_unknown_session_is_empty(store: Store) -> None:
    sign_in(store, "s1", 1)

    assert store.sessions.list_of(ANA, before="unknown") == []


def test_an_expired_session_is_not_listed(store: Store, clock: FakeClock) -> None:
    sign_in(store, "s1", 1)
    sign_in(store, "s2", 2)
    clock.advance(LATER + timedelta(days=31, hours=1) - clock.now())

    assert names(store) == ["s2"]


def test_sessions_from_before_a_raise_are_not_listed(store: Store) -> None:
    for principal in (EVERYONE, PORTAL, ANA):
        sign_in(store, f"before-{principal}", 1)
        store.facts.raise_generation(principal, above=0, request_id=None)

        assert names(store) == []


def test_a_session_that_is_refreshed_keeps_its_place(store: Store) -> None:
    sign_in(store, "s1", 1)
    sign_in(store, "s2", 2)
    state = store.sessions.read(SessionId("s1"))
    assert state is not None

    assert store.sessions.replace(state.session, expected_version=state.version)

    assert names(store) == ["s2", "s1"]


def test_something_is_used_up_by_the_first_of_many(store: Store) -> None:
    answers: list[bool] = []
    barrier = threading.Barrier(32)

    def use() -> None:
        barrier.wait()
        answers.append(store.single_use.consume("jti-1", LATER))

    threads = [threading.Thread(target=use) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [False] * 31 + [True]
    assert store.single_use.consume("jti-2", LATER)


def test_something_that_was_used_up_may_be_used_again_after_its_time(store: Store, clock: FakeClock) -> None:
    assert store.single_use.consume("jti", clock.now() + timedelta(seconds=60))
    clock.advance(timedelta(seconds=59))
    assert not store.single_use.consume("jti", clock.now() + timedelta(seconds=60))
    clock.advance(timedelta(seconds=2))

    assert store.single_use.consume("jti", clock.now() + timedelta(seconds=60))
