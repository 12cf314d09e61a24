"""The rotation of refresh tokens, with a clock that the test sets: grace window, reuse and lost replies."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from identity_service.domain.ids import EVERYONE, KeyId, Link, PrincipalId
from identity_service.domain.log import Generation
from identity_service.domain.sessions import (
    MAX_NUMBER,
    MAX_ROTATIONS_IN_WINDOW,
    NO_PARENT,
    RefreshDecision,
    Replayed,
    Reused,
    Rotated,
    Session,
    Superseded,
    TooFrequent,
    decide_refresh,
)
from tests.unit.domain.samples import GRACE, KEY, MOMENT, NEW_KEY, START, a_session

PAST_GRACE = GRACE + MOMENT


def show(
    session: Session, number: int, now: datetime = START, *, grace: timedelta = GRACE, key_id: KeyId = KEY
) -> RefreshDecision:
    return decide_refresh(session, number, now=now, grace=grace, key_id=key_id)


def rotated(session: Session, number: int, now: datetime = START, *, key_id: KeyId = KEY) -> Session:
    """Present the token of this number; return the session after the rotation, which must take place."""
    decision = show(session, number, now, key_id=key_id)
    assert isinstance(decision, Rotated)
    return decision.session


def chain(*times: datetime) -> Session:
    """Return a session whose latest token was refreshed at each of these times."""
    session = a_session()
    for time in times:
        session = rotated(session, session.latest, time)
    return session


def test_a_session_begins_with_number_0_and_no_parent() -> None:
    assert (a_session().latest, a_session().parent) == (0, NO_PARENT)


def test_the_latest_rotates_to_the_next_number() -> None:
    session = rotated(a_session(), 0)
    assert (session.latest, session.parent, session.rotate_times) == (1, 0, {0: START})


def test_a_rotation_changes_nothing_but_the_chain() -> None:
    before = a_session(device="laptop", claims={"tenant": "t1"})
    after = rotated(before, 0, key_id=NEW_KEY)
    assert after == replace(
        before, latest=1, parent=0, refresh_time=START, rotate_times={0: START}, key_id=NEW_KEY
    )


def test_a_decision_leaves_the_record_it_was_given_as_it_was() -> None:
    """A caller whose compare-and-set fails reads the record again and decides anew."""
    session = chain(START)
    before = dict(session.rotate_times)
    rotated(session, session.latest, START + GRACE / 2)
    assert (before, 1, 0) == (session.rotate_times, session.latest, session.parent)


@pytest.mark.parametrize("after", [timedelta(0), MOMENT, GRACE / 2, GRACE])
def test_the_parent_within_the_grace_window_gives_the_same_latest_again(after: timedelta) -> None:
    session = chain(START)
    assert show(session, 0, START + after) == Replayed(session=session)


def test_a_replay_keeps_the_key_of_the_latest_token() -> None:
    """The key that derives refresh tokens may have been rotated in between, and would derive another text."""
    session = rotated(a_session(), 0, key_id=KEY)
    decision = show(session, 0, START + MOMENT, key_id=NEW_KEY)
    assert decision == Replayed(session=session)
    assert session.key_id == KEY


def test_the_window_counts_from_the_first_rotation_and_never_slides() -> None:
    """Presenting the parent token repeatedly does not extend its grace window."""
    session = chain(START)
    for second in range(0, 60, 7):
        decision = show(session, 0, START + timedelta(seconds=second))
        assert isinstance(decision, Replayed)
        session = decision.session
    assert isinstance(show(session, 0, START + PAST_GRACE), Rotated)


def test_the_parent_past_the_window_rotates_to_a_new_number_under_the_same_parent() -> None:
    session = rotated(chain(START), 0, START + PAST_GRACE)
    assert (session.latest, session.parent) == (2, 0)


def test_the_new_number_under_the_same_parent_has_a_window_of_its_own() -> None:
    again = START + PAST_GRACE
    session = rotated(chain(START), 0, again)
    assert show(session, 0, again + GRACE) == Replayed(session=session)
    assert isinstance(show(session, 0, again + PAST_GRACE), Rotated)


def test_a_reply_that_is_lost_again_and_again_ends_no_session() -> None:
    """The client presents the same token days later, and each time gets a successor that works."""
    session, now = a_session(), START
    for attempt in range(1, 20):
        session = rotated(session, 0, now)
        assert (session.latest, session.parent) == (attempt, 0)
        now += timedelta(days=1)
    assert rotated(session, 19, now).parent == 19


def test_the_number_between_is_void_within_its_window_harmlessly() -> None:
    again = START + PAST_GRACE
    session = rotated(chain(START), 0, again)
    assert show(session, 1, again) == Superseded()
    assert show(session, 1, again + GRACE) == Superseded()


def test_the_number_between_is_reuse_past_its_window() -> None:
    """The holder of the later token and the sender of the parent token are two parties."""
    again = START + PAST_GRACE
    session = rotated(chain(START), 0, again)
    assert show(session, 1, again + PAST_GRACE) == Reused()


def test_a_void_number_stays_void_when_the_chain_goes_on() -> None:
    again = START + PAST_GRACE
    session = rotated(rotated(chain(START), 0, again), 2, again + MOMENT)
    assert (session.latest, session.parent) == (3, 2)
    assert show(session, 1, again + MOMENT) == Superseded()
    assert show(session, 1, again + PAST_GRACE) == Reused()


def test_an_older_number_within_its_own_window_is_superseded() -> None:
    """A slow thread of the client sent the older token: it is refused, and the session goes on."""
    session = chain(START, START + GRACE / 2)
    assert show(session, 0, START + GRACE) == Superseded()


def test_an_older_number_past_its_own_window_is_reuse() -> None:
    """The window of the older number is over, although the window of its successor is not."""
    session = chain(START, START + GRACE / 2)
    assert show(session, 0, START + PAST_GRACE) == Reused()
    assert isinstance(show(session, 1, START + PAST_GRACE), Replayed)


def test_a_number_that_was_forgotten_long_ago_is_reuse() -> None:
    session = chain(*(START + timedelta(days=day) for day in range(5)))
    assert [show(session, n, START + timedelta(days=4)) for n in range(4)] == [Reused()] * 4


def test_without_a_grace_window_only_the_same_moment_counts_as_within() -> None:
    session = chain(START)
    assert isinstance(show(session, 0, START, grace=timedelta(0)), Replayed)
    assert isinstance(show(session, 0, START + MOMENT, grace=timedelta(0)), Rotated)


def test_a_rotation_time_ahead_of_the_clock_counts_as_within_the_window() -> None:
    """A failover to a store whose clock is a little behind must end no session."""
    session = chain(START)
    assert show(session, 0, START - timedelta(seconds=1)) == Replayed(session=session)


# Ahead of the latest: a failover of the store lost rotations.


def test_a_number_ahead_of_the_latest_moves_the_chain_forward() -> None:
    session = rotated(chain(START), 5, START + MOMENT, key_id=NEW_KEY)
    assert (session.latest, session.parent, session.key_id) == (6, 5, NEW_KEY)
    assert show(session, 5, START + GRACE) == Replayed(session=session)


def test_numbers_that_were_skipped_count_as_rotated_at_that_moment() -> None:
    jump = START + timedelta(hours=1)
    session = rotated(chain(START), 5, jump)
    assert session.rotate_times == dict.fromkeys([1, 2, 3, 4, 5], jump)
    for number in (1, 2, 3, 4):
        assert show(session, number, jump + GRACE) == Superseded()
        assert show(session, number, jump + PAST_GRACE) == Reused()


def test_skipping_keeps_the_windows_of_the_numbers_before() -> None:
    session = rotated(chain(START), 3, START + GRACE / 2)
    assert show(session, 0, START + GRACE) == Superseded()
    assert show(session, 0, START + PAST_GRACE) == Reused()


def test_one_number_ahead_is_the_ordinary_lost_rotation() -> None:
    """The owner received number 1, but the store lost the rotation: 0 is the latest when 1 is presented."""
    session = rotated(a_session(), 1)
    assert (session.latest, session.parent, session.rotate_times) == (2, 1, {0: START, 1: START})


def test_a_very_long_skip_keeps_the_record_within_its_bound() -> None:
    session = rotated(chain(START, START, START), 1_000_000)
    assert len(session.rotate_times) == MAX_ROTATIONS_IN_WINDOW
    assert max(session.rotate_times) == session.parent == 1_000_000
    assert show(session, 1_000_000) == Replayed(session=session)


# Bounds.


def test_a_session_that_rotates_too_often_has_to_wait_for_the_window_to_move() -> None:
    session = chain(*[START] * MAX_ROTATIONS_IN_WINDOW)
    assert session.latest == MAX_ROTATIONS_IN_WINDOW
    assert show(session, session.latest, START + GRACE) == TooFrequent()
    later = rotated(session, session.latest, START + PAST_GRACE)
    assert later.rotate_times == {session.latest: START + PAST_GRACE}


def test_a_session_that_must_wait_still_repeats_its_latest_token() -> None:
    session = chain(*[START] * MAX_ROTATIONS_IN_WINDOW)
    assert show(session, session.parent, START + GRACE) == Replayed(session=session)


def test_the_record_forgets_every_time_that_is_past_its_window() -> None:
    session = chain(*(START + timedelta(seconds=10 * n) for n in range(100)))
    assert list(session.rotate_times) == [93, 94, 95, 96, 97, 98, 99]


def test_numbers_end_before_they_outgrow_their_four_bytes() -> None:
    session = a_session(latest=MAX_NUMBER, parent=MAX_NUMBER - 1)
    assert show(session, MAX_NUMBER) == TooFrequent()


def test_a_session_ends_with_each_principal_that_it_names() -> None:
    before = PrincipalId("u_before")
    session = a_session(generations={before: Generation(number=1, link=Link("l"))})

    assert session.principals == {EVERYONE, session.subject, session.client_id, before}
