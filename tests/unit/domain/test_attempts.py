"""The limits on failed attempts: which failures count, how long the next attempt waits, what resets them."""

from dataclasses import fields
from datetime import timedelta

import pytest

from identity_service.domain.attempts import (
    AllClaimsInUse,
    AttemptPolicies,
    AttemptPolicy,
    Counts,
    Paused,
    Verdict,
    refusal,
)

HOUR = 3600.0
POLICY = AttemptPolicy(free=3)


def failing(times: int, *, policy: AttemptPolicy = POLICY, at: float = 0.0) -> Counts:
    """Return the counts after `times` failures at the same time."""
    counts = Counts()
    for _ in range(times):
        counts.judge(policy, Verdict.WRONG, counts.failed, at)
    return counts


# The policies.


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (2, 0), (3, 1), (4, 2), (5, 4), (12, 512), (13, 900), (10_000, 900)]
)
def test_the_pause_doubles_with_each_failure_after_the_free_ones_up_to_the_lockout(
    failures: int, seconds: int
) -> None:
    assert POLICY.pause_after(failures) == timedelta(seconds=seconds)


def test_a_pause_stops_doubling_before_it_is_too_long_for_a_duration() -> None:
    patient = AttemptPolicy(free=0, lockout=timedelta(days=1000))

    assert patient.pause_after(20) == patient.pause_after(1_000_000) == timedelta(seconds=2**20)


def test_the_policies_are_those_of_the_documentation_unless_the_settings_say_otherwise() -> None:
    policies = AttemptPolicies()

    free = {each.name: getattr(policies, each.name).free for each in fields(policies)}
    assert free == {"username": 50, "username_at_peer": 5, "client": 20, "peer": 100}
    for policy in (policies.username, policies.username_at_peer, policies.client, policies.peer):
        assert (policy.lockout, policy.window) == (timedelta(minutes=15), timedelta(hours=1))
        assert policy.forgive is (policy is not policies.peer)


# The counts.


def test_failures_count_until_the_window_that_the_first_of_them_opened_has_ended() -> None:
    counts = failing(1)
    counts.judge(POLICY, Verdict.WRONG, 1, HOUR - 1)

    assert counts.failures_at(HOUR - 0.5) == 2
    assert counts.failures_at(HOUR) == 0


def test_a_failure_after_a_window_opens_the_next_one() -> None:
    counts = failing(2)
    counts.judge(POLICY, Verdict.WRONG, 2, 1.5 * HOUR)

    assert counts.failures_at(2.4 * HOUR) == 1
    assert counts.failures_at(2.5 * HOUR) == 0


def test_a_failure_pauses_by_the_failures_that_count_with_it() -> None:
    counts = failing(4, at=10.0)

    assert counts.pause_end == 12.0


def test_the_end_of_a_window_ends_the_pause() -> None:
    counts = failing(12, policy=AttemptPolicy(free=0, window=timedelta(seconds=60)))

    counts.failures_at(60.0)

    assert counts.pause_end == 0.0


def test_a_success_forgives_the_failures_from_before_its_claim_and_ends_the_pause() -> None:
    counts = failing(4)

    counts.judge(POLICY, Verdict.RIGHT, 3, 1.0)

    assert counts.failures_at(1.0) == 1
    assert counts.pause_end == 0.0


def test_an_earlier_success_that_is_settled_late_takes_back_no_forgiveness() -> None:
    counts = failing(4)

    counts.judge(POLICY, Verdict.RIGHT, 3, 1.0)
    counts.judge(POLICY, Verdict.RIGHT, 1, 1.0)

    assert counts.failures_at(1.0) == 1


def test_a_success_forgives_no_more_failures_than_there_were() -> None:
    counts = failing(2)

    counts.judge(POLICY, Verdict.RIGHT, 9, 1.0)
    counts.judge(POLICY, Verdict.WRONG, 2, 1.0)

    assert counts.failures_at(1.0) == 1


@pytest.mark.parametrize("verdict", [Verdict.RIGHT, Verdict.NONE])
def test_a_policy_that_does_not_forgive_keeps_its_failures(verdict: Verdict) -> None:
    strict = AttemptPolicy(free=1, forgive=False)
    counts = failing(2, policy=strict)

    counts.judge(strict, verdict, 2, 0.5)

    assert counts.failures_at(0.5) == 2
    assert counts.pause_end == 2.0


def test_an_attempt_whose_credential_was_not_checked_changes_nothing() -> None:
    counts = failing(2)

    counts.judge(POLICY, Verdict.NONE, 2, 1.0)

    assert counts.failures_at(1.0) == 2


# Whether an attempt may be claimed.


@pytest.mark.parametrize("claims", [0, 2])
def test_an_attempt_may_be_claimed_while_a_claim_is_free(claims: int) -> None:
    counts = Counts(claims=claims)

    assert refusal([(POLICY, counts)], 0.0) is None


@pytest.mark.parametrize(("failures", "claims"), [(0, 3), (2, 1), (1, 4)])
def test_failures_and_attempts_in_progress_use_up_the_claims_together(failures: int, claims: int) -> None:
    counts = failing(failures)
    counts.claims = claims

    assert isinstance(refusal([(POLICY, counts)], 0.0), AllClaimsInUse)


def test_an_attempt_during_the_pause_is_refused_with_the_time_that_is_left() -> None:
    assert refusal([(POLICY, failing(5))], 1.0) == Paused(left=timedelta(seconds=3))


def test_after_the_pause_one_attempt_at_a_time_may_be_claimed() -> None:
    counts = failing(5)

    assert refusal([(POLICY, counts)], 4.0) is None
    counts.claims = 1
    assert isinstance(refusal([(POLICY, counts)], 4.0), AllClaimsInUse)


def test_of_several_limits_the_longest_pause_is_told_even_if_another_has_no_claim_left() -> None:
    busy = Counts(claims=3)

    for watched in ((failing(4), failing(6), busy), (busy, failing(6), failing(4))):
        assert refusal([(POLICY, counts) for counts in watched], 0.0) == Paused(left=timedelta(seconds=8))


def test_a_free_claim_of_one_limit_does_not_help_if_another_has_none() -> None:
    free, busy = Counts(), Counts(claims=3)

    for watched in ((free, busy), (busy, free)):
        assert isinstance(refusal([(POLICY, counts) for counts in watched], 0.0), AllClaimsInUse)
