"""Tests of `History`: it must detect each answer that a service must not give."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from identity_client import Outcome, Rejected, Verified
from tests.faults.history import History, Revocation

REVOCATION = Revocation(token="t", target="token", process=0, time=100.0, valid_from=datetime.now(UTC))
VERIFIED = Verified.__new__(Verified)
"""An answer without content: `History` looks only at its type."""


def rejected(reason: str) -> Outcome:
    return Rejected(reason=reason, detail="", revision="")


@pytest.mark.parametrize(
    ("process", "began", "asked"),
    [(0, 0.0, 100.1), (1, 0.0, 101.1), (1, 100.05, 100.1)],
    ids=["by-who-acknowledged-it", "when-it-is-too-late", "by-who-came-after-it"],
)
def test_a_revoked_token_may_not_be_verified(process: int, began: float, asked: float) -> None:
    history = History(bound=1.0)

    history.judge(REVOCATION, VERIFIED, process=process, began=began, asked=asked)

    assert len(history.violations) == 1
    assert history.violation_times == [asked]


def test_a_process_that_may_still_learn_of_a_revocation_is_excused() -> None:
    history = History(bound=1.0)

    history.judge(REVOCATION, VERIFIED, process=1, began=0.0, asked=100.9)

    assert history.violations == []


def test_a_revoked_token_that_is_verified_in_the_end_is_counted_as_a_violation() -> None:
    history = History(bound=1.0)

    known = history.judge_finally(REVOCATION, VERIFIED, process=1, began=0.0, asked=102.0)

    assert not known
    assert len(history.violations) == 1


@pytest.mark.parametrize("reason", ["UNKNOWN_KEY", "EXPIRED", "NOT_YET_VALID", "WRONG_AUDIENCE"])
def test_in_the_end_only_the_revocation_is_a_reason(reason: str) -> None:
    history = History(bound=1.0)

    history.judge_finally(REVOCATION, rejected("REVOKED"), process=1, began=0.0, asked=102.0)
    assert history.mistakes == []

    history.judge_finally(REVOCATION, rejected(reason), process=1, began=0.0, asked=102.0)
    assert len(history.mistakes) == 1


def test_a_token_that_a_fast_clock_made_may_be_too_young_in_the_end() -> None:
    history = History(bound=1.0)
    early = replace(REVOCATION, valid_from=datetime.now(UTC) + timedelta(hours=1))

    history.judge_finally(early, rejected("NOT_YET_VALID"), process=1, began=0.0, asked=102.0)

    assert history.mistakes == []


def test_a_wrong_reason_is_a_mistake_while_the_fault_lasts_too() -> None:
    history = History(bound=1.0)

    history.judge(REVOCATION, rejected("UNKNOWN_KEY"), process=1, began=0.0, asked=100.1)

    assert len(history.mistakes) == 1
