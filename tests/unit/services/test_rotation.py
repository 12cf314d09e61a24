"""The rotation of signing keys: by schedule, in one process at a time, and by an administrator."""

from datetime import timedelta

import pytest

from identity_service.domain.errors import (
    IdentityError,
    InvalidRequestError,
    NotFoundError,
    StaleEtagError,
    StoreUnavailableError,
)
from identity_service.domain.keys import KeyPurpose, KeyState
from identity_service.domain.log import Marks
from identity_service.services.rotation import Rotation
from tests.unit.services.use_case_site import CALLER, UseCaseSite, before, failing, open_site, unreachable

SIGN, REFRESH, ENCRYPT = KeyPurpose.SIGN, KeyPurpose.REFRESH, KeyPurpose.ENCRYPT
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
KEPT = timedelta(hours=30, minutes=10, seconds=20)
"""The time for which a key is kept after its last use by default: longer than any token lives."""


@pytest.fixture
def rotation(site: UseCaseSite) -> Rotation:
    return site.use.rotation


def states(site: UseCaseSite, purpose: KeyPurpose = SIGN) -> list[str]:
    site.replica.catch_up()
    return list(site.key_states(purpose).values())


# By schedule


def test_keys_that_are_not_due_are_left_alone(site: UseCaseSite, rotation: Rotation) -> None:
    count = len(site.changes())
    site.pass_time(days=29)

    assert rotation.maintain() == 0

    assert len(site.changes()) == count


def test_when_the_standbys_come_into_use_the_next_ones_are_made(
    site: UseCaseSite, rotation: Rotation
) -> None:
    _, standby = site.key_ids()
    site.pass_time(days=30)

    assert rotation.maintain() == 3

    for purpose in KeyPurpose:
        assert states(site, purpose) == ["verifying", "signing", "pending"]
    made = site.key(site.key_ids()[-1])
    assert (made.create_time, made.activate_time) == (site.clock.now(), site.clock.now() + 30 * DAY)
    assert made.algorithm == site.key(standby).algorithm
    assert site.key_event(made.key_id, by_caller=False) in site.audited("key_created")
    assert site.stored("key_created")[-3:] == site.audited("key_created")
    assert rotation.maintain() == 0


@pytest.mark.parametrize(("after", "acts"), [(timedelta(seconds=9), 0), (timedelta(seconds=10), 3)])
def test_one_process_alone_acts_within_ten_seconds(
    site: UseCaseSite, rotation: Rotation, after: timedelta, acts: int
) -> None:
    """After ten seconds another process may act, since the first may be slow or have ended."""
    elsewhere = site.other_process()
    site.pass_time(days=30)
    before(site.store.records, "create", unreachable)
    with pytest.raises(StoreUnavailableError):
        rotation.maintain()

    site.pass_time(seconds=after.total_seconds())
    elsewhere.replica.heartbeat("elsewhere")

    assert elsewhere.use.rotation.maintain() == acts


def test_the_plan_is_made_again_under_the_lease(site: UseCaseSite, rotation: Rotation) -> None:
    site.pass_time(days=30)
    before(site.store.single_use, "consume", lambda: rotation.rotate(SIGN))

    assert rotation.maintain() == 2

    assert states(site) == ["verifying", "signing", "pending"]


@pytest.mark.parametrize(
    ("marks", "kept"),
    [
        (Marks(), KEPT),
        (
            Marks(lifetime=timedelta(hours=48), leeway=timedelta(seconds=70)),
            timedelta(hours=48, seconds=140),
        ),
    ],
    ids=["as configured", "of the longest lifetime ever configured"],
)
def test_a_key_is_deleted_once_everything_that_it_made_has_expired(
    site: UseCaseSite, rotation: Rotation, marks: Marks, kept: timedelta
) -> None:
    old = site.key_ids()[0]
    site.store.log.heartbeat("elsewhere", marks=marks)
    site.pass_time(days=30)
    rotation.maintain()
    site.pass_time(seconds=kept.total_seconds() - 1)
    assert rotation.maintain() == 0
    deleted = site.key_event(old, by_caller=False)

    site.pass_time(seconds=10)  # so long no other process may act, either

    assert rotation.maintain() == 2
    assert [states(site, purpose) for purpose in (SIGN, ENCRYPT)] == [["signing", "pending"]] * 2
    assert states(site, REFRESH) == ["verifying", "signing", "pending"], "sessions live for longer"
    assert deleted in site.audited("key_deleted")
    assert site.stored("key_deleted") == site.audited("key_deleted")


def test_a_clock_that_is_weeks_ahead_for_a_moment_costs_no_key(site: UseCaseSite, rotation: Rotation) -> None:
    site.clock.step(100 * DAY)
    site.replica.heartbeat("tests")

    rotation.maintain()

    assert states(site) == ["verifying", "signing", "pending"]


# By an administrator


@pytest.mark.parametrize("purpose", KeyPurpose)
def test_a_standby_that_every_verifier_can_know_is_used_at_once(
    site: UseCaseSite, rotation: Rotation, purpose: KeyPurpose
) -> None:
    _, standby = site.key_ids(purpose)
    site.pass_time(hours=2)

    used = rotation.rotate(purpose, origin=CALLER)

    assert (used.key_id, used.state, used.activate_time) == (standby, KeyState.SIGNING, site.clock.now())
    assert states(site, purpose) == ["verifying", "signing", "pending"]
    assert site.audited("key_activated") == site.stored("key_activated") == [site.key_event(standby)]
    assert site.audited("key_created") == [site.key_event(site.key_ids(purpose)[-1])]


@pytest.mark.parametrize("age", [timedelta(0), HOUR - SECOND])
def test_a_younger_standby_waits_until_it_has_been_published_for_an_hour(
    site: UseCaseSite, rotation: Rotation, age: timedelta
) -> None:
    standby, published = site.key_ids()[1], site.clock.now()
    site.pass_time(seconds=age.total_seconds())

    waiting = rotation.rotate(SIGN)

    assert (waiting.key_id, waiting.state) == (standby, KeyState.PENDING)
    assert waiting.activate_time == published + HOUR
    assert rotation.rotate(SIGN) == waiting
    assert len(site.audited("key_activated")) == 1, "it comes into use no sooner"


def test_a_store_without_a_standby_gets_one_of_the_same_algorithm(
    site: UseCaseSite, rotation: Rotation
) -> None:
    in_use, standby = site.key_ids()
    site.delete_key(standby)

    made = rotation.rotate(SIGN)

    assert (made.algorithm, made.state) == (site.key(in_use).algorithm, KeyState.PENDING)
    assert made.activate_time == site.clock.now() + HOUR


@pytest.mark.parametrize("algorithm", ["EdDSA", "ML-DSA-44"])
def test_another_algorithm_replaces_the_standby(
    site: UseCaseSite, rotation: Rotation, algorithm: str
) -> None:
    in_use, standby = site.key_ids()
    deleted = site.key_event(standby)

    made = rotation.rotate(SIGN, algorithm, origin=CALLER)

    assert (made.algorithm, made.state) == (algorithm, KeyState.PENDING)
    assert made.activate_time == site.clock.now() + HOUR
    assert site.key_ids() == [in_use, made.key_id]
    assert site.audited("key_deleted") == [deleted]
    site.pass_time(hours=1)
    assert site.key_states()[made.key_id] == "signing"


def test_a_standby_that_is_about_to_be_used_is_not_replaced(site: UseCaseSite, rotation: Rotation) -> None:
    """Another process that has not read of its deletion would sign with the key."""
    standby = site.key_ids()[1]
    site.pass_time(days=30, seconds=-30)

    rotation.rotate(SIGN, "EdDSA")

    assert standby in site.key_states()


def test_the_algorithm_of_the_standby_may_be_named(site: UseCaseSite, rotation: Rotation) -> None:
    standby = site.key_ids()[1]
    site.pass_time(hours=2)

    assert rotation.rotate(SIGN, "ES256").key_id == standby


@pytest.mark.parametrize(
    ("own", "purpose", "algorithm"),
    [
        ("ES256", REFRESH, "HS256"),
        ("ES256", ENCRYPT, "ECDH-ES+A256KW"),
        ("ES256", SIGN, "none"),
        ("ES256", SIGN, "HS256"),
        ("HS256", SIGN, "ES256"),
    ],
)
def test_an_algorithm_that_is_not_possible_is_refused(own: str, purpose: KeyPurpose, algorithm: str) -> None:
    with open_site(algorithm=own) as site:
        count = len(site.changes())

        with pytest.raises(InvalidRequestError) as refused:
            site.use.rotation.rotate(purpose, algorithm)

        assert [violation.field for violation in refused.value.violations] == ["algorithm"]
        assert len(site.changes()) == count


def test_a_shared_key_is_replaced_by_another_one() -> None:
    with open_site(algorithm="HS256") as site:
        site.pass_time(hours=2)

        assert site.use.rotation.rotate(SIGN, "HS256").algorithm == "HS256"


@pytest.mark.parametrize("error", [StaleEtagError, NotFoundError])
def test_a_rotation_that_loses_a_race_is_tried_eight_times(
    site: UseCaseSite, rotation: Rotation, error: type[IdentityError]
) -> None:
    site.pass_time(hours=2)
    standby = site.key_ids()[1]
    before(site.store.records, "update", *[failing(error("it changed"))] * 8)

    with pytest.raises(StaleEtagError, match="try again"):
        rotation.rotate(SIGN)

    before(site.store.records, "update", *[failing(error("it changed"))] * 7)
    assert rotation.rotate(SIGN).key_id == standby
