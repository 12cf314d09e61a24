"""The schedule of signing keys: one signs, the next is published early, old ones stay while needed."""

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from identity_service.domain.ids import KeyId
from identity_service.domain.keys import (
    CreateKey,
    DeleteKey,
    KeyPolicy,
    KeyPurpose,
    KeySchedule,
    KeyState,
    StoredKey,
)
from tests.unit.domain.samples import START, a_key

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LIFETIME = timedelta(hours=25)
POLICY = KeyPolicy(rotate_every=30 * DAY, publish_before=HOUR, lifetimes=dict.fromkeys(KeyPurpose, LIFETIME))


def schedule(*keys: StoredKey, now: datetime = START, revoked: tuple[str, ...] = ()) -> KeySchedule:
    return KeySchedule(keys, map(KeyId, revoked), KeyPurpose.SIGN, now)


def states(found: KeySchedule) -> dict[str, KeyState]:
    return {key.key_id: key.state for key in found.described(POLICY)}


OLD = a_key("old", activate_time=START - 30 * DAY)
NOW = a_key("now", activate_time=START)
NEXT = a_key("next", activate_time=START + 30 * DAY)


def test_each_key_has_the_state_of_its_place() -> None:
    assert states(schedule(NEXT, OLD, NOW)) == {
        "old": KeyState.VERIFYING,
        "now": KeyState.SIGNING,
        "next": KeyState.PENDING,
    }


def test_a_retired_key_is_revoked_and_the_next_one_is_used_before_its_time() -> None:
    found = schedule(OLD, NOW, NEXT, revoked=("old", "now"))

    assert found.in_use == NEXT
    assert states(found) == {
        "old": KeyState.REVOKED,
        "now": KeyState.REVOKED,
        "next": KeyState.SIGNING,
    }


def test_an_older_key_signs_again_only_if_no_other_is_left() -> None:
    assert schedule(OLD, NOW, NEXT, revoked=("now",)).in_use == NEXT
    assert schedule(OLD, NOW, revoked=("now",)).in_use == OLD


def test_of_several_older_keys_the_newest_signs_again() -> None:
    oldest = a_key("oldest", activate_time=START - 60 * DAY)

    assert schedule(oldest, OLD, NOW, revoked=("now",)).in_use == OLD


def test_a_complete_schedule_needs_no_change() -> None:
    assert list(schedule(NOW, NEXT).plan(POLICY, START, START)) == []


def test_a_missing_standby_is_made_for_the_end_of_the_key_in_use() -> None:
    (step,) = schedule(NOW).plan(POLICY, START, START)

    assert step == CreateKey(
        purpose=KeyPurpose.SIGN, algorithm="ES256", activate_time=NOW.activate_time + 30 * DAY
    )


def test_a_standby_made_late_is_still_published_long_enough() -> None:
    late = START + 30 * DAY - timedelta(minutes=1)
    (step,) = schedule(NOW, now=late).plan(POLICY, late, late)

    assert isinstance(step, CreateKey)
    assert step.activate_time == late + HOUR


def test_the_successor_of_a_standby_has_its_algorithm() -> None:
    post = a_key("post", algorithm="EdDSA", activate_time=START)
    (step,) = schedule(OLD, post).plan(POLICY, START, START)

    assert isinstance(step, CreateKey)
    assert step.algorithm == "EdDSA"


def test_a_key_is_forgotten_when_nothing_lives_that_it_signed() -> None:
    gone = NOW.activate_time + LIFETIME
    before = gone - timedelta(seconds=1)

    assert list(schedule(OLD, NOW, NEXT, now=before).plan(POLICY, before, before)) == []
    assert list(schedule(OLD, NOW, NEXT, now=gone).plan(POLICY, gone, gone)) == [DeleteKey(key=OLD)]


def test_a_key_is_not_forgotten_by_a_clock_that_has_not_held() -> None:
    gone = NOW.activate_time + LIFETIME
    keys = schedule(OLD, NOW, NEXT, now=gone)

    assert list(keys.plan(POLICY, gone, None)) == []
    assert list(keys.plan(POLICY, gone, gone - timedelta(seconds=1))) == []


def test_a_second_standby_is_deleted_unless_it_is_about_to_be_used() -> None:
    other = replace(NEXT, key_id=KeyId("other"), activate_time=NEXT.activate_time + HOUR)
    soon = other.activate_time - HOUR - timedelta(seconds=30)
    last = NEXT.activate_time - timedelta(seconds=5)
    close = replace(other, activate_time=NEXT.activate_time + timedelta(seconds=5))

    assert list(schedule(NOW, NEXT, other, now=soon).plan(POLICY, soon, soon)) == [DeleteKey(key=other)]
    assert list(schedule(NOW, NEXT, close, now=last).plan(POLICY, last, last)) == []


def test_if_every_key_was_retired_a_key_is_made_that_signs_at_once() -> None:
    (step,) = schedule(OLD, NOW, revoked=("old", "now")).plan(POLICY, START, START)

    assert step == CreateKey(purpose=KeyPurpose.SIGN, algorithm="ES256", activate_time=START)


def test_a_key_that_is_made_for_retired_ones_has_the_algorithm_of_the_newest() -> None:
    keys = [
        replace(OLD, algorithm="RS256"),
        replace(NOW, algorithm="ES256"),
        replace(NEXT, algorithm="EdDSA"),
    ]

    (step,) = schedule(*keys, revoked=("old", "now", "next")).plan(POLICY, START, START)

    assert isinstance(step, CreateKey)
    assert step.algorithm == "EdDSA"


def test_a_store_from_before_there_was_encryption_gets_a_key_for_it() -> None:
    found = KeySchedule([NOW], (), KeyPurpose.ENCRYPT, START)

    assert list(found.plan(POLICY, START, START)) == [
        CreateKey(purpose=KeyPurpose.ENCRYPT, algorithm="ECDH-ES+A256KW", activate_time=START)
    ]
    assert list(KeySchedule([], (), KeyPurpose.ENCRYPT, START).plan(POLICY, START, START)) == []
    assert list(KeySchedule([NOW], (), KeyPurpose.REFRESH, START).plan(POLICY, START, START)) == []


def test_a_store_that_has_lost_its_keys_is_not_begun_anew() -> None:
    assert list(schedule().plan(POLICY, START, START)) == []


def test_keys_of_another_purpose_do_not_count() -> None:
    refresh = a_key("refresh", purpose=KeyPurpose.REFRESH, activate_time=START + DAY)

    assert schedule(NOW, NEXT, refresh).waiting == [NEXT]


@settings(max_examples=200)
@given(st.lists(st.timedeltas(timedelta(seconds=1), 20 * DAY), min_size=1, max_size=60), st.data())
def test_however_time_passes_and_keys_are_retired_tokens_live_and_verifiers_know(
    passes: list[timedelta], data: st.DataObject
) -> None:
    """A process carries out the plan at random times, and signs a token each time."""
    keys, now = {NOW.key_id: NOW}, START
    revoked: set[KeyId] = set()
    signed: list[tuple[KeyId, datetime]] = []
    made = 0
    for passed in passes:
        for step in schedule(*keys.values(), now=now, revoked=tuple(revoked)).plan(POLICY, now, now):
            if isinstance(step, DeleteKey):
                del keys[step.key.key_id]
                continue
            made += 1
            key = a_key(f"k{made}", create_time=now, activate_time=step.activate_time)
            keys[key.key_id] = key
        found = schedule(*keys.values(), now=now, revoked=tuple(revoked))
        assert found.in_use is not None
        assert found.in_use.key_id not in revoked
        if not revoked:
            assert len(found.waiting) == 1
            known_since = now - found.in_use.create_time
            assert found.in_use == NOW or known_since >= HOUR, "no verifier may meet a key it cannot know"
        signed.append((found.in_use.key_id, now))
        for key_id, when in signed:
            assert now >= when + LIFETIME or key_id in keys, "a live token has lost its key"
        if data.draw(st.integers(0, 9)) == 0:
            revoked.add(found.in_use.key_id)
        now += passed
