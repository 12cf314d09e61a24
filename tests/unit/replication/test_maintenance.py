"""The maintenance of the log: resending unconfirmed facts, repairing lost ones, and trimming old entries."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from identity_service.domain.clock_guard import LONGEST_BACK
from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ids import Link, SessionId, TokenId
from identity_service.domain.log import (
    Fact,
    LogEntry,
    Revision,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.revocations import Revocations
from identity_service.replication.maintenance import LogMaintenance
from tests.fakes.change_logs import MemoryChangeLog
from tests.fakes.clocks import FakeClock
from tests.fakes.event_logs import RecordingEventLog

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
HOUR = timedelta(hours=1)


def denied(number: int) -> TokenDenied:
    return TokenDenied(token_id=TokenId(f"t{number}"), deny_until=LATER)


@pytest.fixture
def log(clock: FakeClock) -> MemoryChangeLog:
    log = MemoryChangeLog(clock)
    log.end, log.retention = 100_000, HOUR
    return log


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def revocations() -> Revocations:
    return Revocations()


class Following:
    """A callback that keeps the confirmed facts, with the revision that confirms them."""

    def __init__(self) -> None:
        self.found: list[tuple[Sequence[Fact], Revision]] = []
        self.is_followed = True

    def __call__(self, facts: Sequence[Fact], end: Revision) -> bool:
        self.found.append((facts, end))
        return self.is_followed


@pytest.fixture
def following() -> Following:
    return Following()


@pytest.fixture
def maintenance(
    log: MemoryChangeLog,
    revocations: Revocations,
    clock: FakeClock,
    event_log: RecordingEventLog,
    following: Following,
) -> LogMaintenance:
    return LogMaintenance(log, revocations, clock, event_log, sent=following)


def test_without_anything_to_do_nothing_is_written(maintenance: LogMaintenance, log: MemoryChangeLog) -> None:
    maintenance.do()
    assert log.repairs == 0


def test_unconfirmed_facts_are_kept_while_the_store_is_unreachable(
    maintenance: LogMaintenance, log: MemoryChangeLog
) -> None:
    maintenance.add_unconfirmed(denied(1))
    maintenance.add_unconfirmed(denied(1))
    maintenance.add_unconfirmed(denied(2))
    log.reachable = False
    with pytest.raises(StoreUnavailableError):
        maintenance.do()
    assert maintenance.unconfirmed == 2
    log.reachable = True
    maintenance.do()
    assert (maintenance.unconfirmed, log.repaired) == (0, [denied(1), denied(2)])


def test_facts_that_another_history_confirmed_are_sent_again_after_a_pause(
    maintenance: LogMaintenance,
    log: MemoryChangeLog,
    following: Following,
    revocations: Revocations,
    event_log: RecordingEventLog,
) -> None:
    """The facts count as unconfirmed again, and the error makes the caller wait before the next attempt."""
    maintenance.add_unconfirmed(denied(1))
    following.is_followed = False
    with pytest.raises(StoreUnavailableError, match="another history"):
        maintenance.do()
    assert following.found == [((denied(1),), log.head().revision)]
    revocations.apply(denied(2), Link("l"))
    maintenance.request_repair()
    with pytest.raises(StoreUnavailableError, match="another history"):
        maintenance.do()
    assert following.found[1:] == [((), log.head().revision)], "a part of all that is known"
    assert event_log.events == []
    following.is_followed = True
    maintenance.do()
    assert event_log.events == [("log_repaired", {"known": 1, "absent": 0})]


def test_unconfirmed_facts_are_bounded_and_each_dropped_one_is_reported(
    maintenance: LogMaintenance, event_log: RecordingEventLog
) -> None:
    for number in range(10_002):
        maintenance.add_unconfirmed(denied(number))
    assert maintenance.unconfirmed == 10_000
    assert event_log.names == ["resend_dropped"] * 2


def test_everything_is_sent_in_pieces_once_for_each_loss(
    maintenance: LogMaintenance, log: MemoryChangeLog, revocations: Revocations, event_log: RecordingEventLog
) -> None:
    for number in range(1000):
        revocations.apply(denied(number), Link("l"))
    maintenance.request_repair()
    maintenance.do()
    maintenance.do()
    assert log.repairs == 4
    assert event_log.events == [("log_repaired", {"known": 1000, "absent": 1000})]
    maintenance.request_repair()
    maintenance.do()
    assert event_log.events[1:] == [("log_repaired", {"known": 1000, "absent": 0})]


def test_a_repair_that_was_interrupted_is_done_again(
    maintenance: LogMaintenance, log: MemoryChangeLog, revocations: Revocations, event_log: RecordingEventLog
) -> None:
    revocations.apply(denied(1), Link("l"))
    maintenance.request_repair()
    log.reachable = False
    with pytest.raises(StoreUnavailableError):
        maintenance.do()
    log.reachable = True
    maintenance.do()
    assert event_log.names == ["log_repaired"]


def test_only_entries_that_were_held_for_the_retention_are_trimmed(
    maintenance: LogMaintenance, log: MemoryChangeLog, clock: FakeClock
) -> None:
    maintenance.held(log.head(), 10_000, NOW)
    clock.advance(timedelta(seconds=1800))
    maintenance.held(log.head(), 40_000, NOW)
    clock.advance(timedelta(seconds=1799))
    maintenance.held(log.head(), 60_000, NOW)
    maintenance.do()
    assert log.floor == 0
    clock.advance(timedelta(seconds=1))
    maintenance.held(log.head(), 60_000, NOW)
    maintenance.do()
    assert log.floor == 10_000
    clock.advance(timedelta(seconds=1800))
    maintenance.held(log.head(), 70_000, NOW)
    maintenance.do()
    assert log.floor == 40_000


def test_after_a_loss_holding_begins_anew(
    maintenance: LogMaintenance, log: MemoryChangeLog, clock: FakeClock
) -> None:
    maintenance.held(log.head(), 10_000, NOW)
    clock.advance(timedelta(seconds=3000))
    maintenance.request_repair()
    maintenance.held(log.head(), 20_000, NOW)
    clock.advance(timedelta(seconds=3000))
    maintenance.held(log.head(), 30_000, NOW)
    maintenance.do()
    assert log.floor == 0


def test_without_a_known_retention_nothing_is_trimmed(
    maintenance: LogMaintenance, log: MemoryChangeLog, clock: FakeClock
) -> None:
    unknown = replace(log.head(), retention=timedelta(0))
    for _ in range(5):
        maintenance.held(unknown, 10_000, NOW)
        clock.advance(timedelta(seconds=1e6))
    maintenance.do()
    assert log.floor == 0


def test_without_a_time_that_the_store_remembers_nothing_is_trimmed(
    maintenance: LogMaintenance, log: MemoryChangeLog, clock: FakeClock
) -> None:
    """Without it, a clock that was set far back could not be told from a correct one."""
    for time in (NOW, None):
        maintenance.held(log.head(), 10_000, time)
        clock.advance(timedelta(seconds=3600))
    maintenance.held(log.head(), 10_000, None)
    maintenance.do()
    assert log.floor == 0


def test_trimmed_denials_that_still_count_by_some_clock_are_kept(
    maintenance: LogMaintenance, log: MemoryChangeLog, clock: FakeClock
) -> None:
    """A clock that was a day ahead for a moment may have issued a token that lives a day longer."""
    ends = {10: -LONGEST_BACK - timedelta(seconds=1), 20: -LONGEST_BACK, 30: timedelta(days=1)}
    for position, end in ends.items():
        denial = TokenDenied(token_id=TokenId(f"t{position}"), deny_until=NOW + end)
        log.entries.append(LogEntry(position, Link("l"), Link("k"), denial))
    session = SessionEnded(session_id=SessionId("s"), deny_until=LATER, end_until=LATER)
    log.entries.append(LogEntry(40, Link("l"), Link("k"), session))
    maintenance.held(log.head(), 35, NOW)
    clock.advance(timedelta(seconds=3600))
    maintenance.held(log.head(), 50, NOW)
    maintenance.do()

    assert log.floor == 35
    assert [fact.token_id for fact in log.kept if isinstance(fact, TokenDenied)] == ["t20", "t30"]
    assert len(log.kept) == 2


def test_many_that_still_count_are_kept_in_several_steps(
    maintenance: LogMaintenance, log: MemoryChangeLog, clock: FakeClock
) -> None:
    log.entries = [LogEntry(n, Link("l"), Link("k"), denied(n)) for n in range(1, 1001)]
    maintenance.held(log.head(), 900, NOW)
    clock.advance(timedelta(seconds=3600))
    maintenance.held(log.head(), 1000, NOW)
    maintenance.do()

    assert log.floor == 900
    assert log.kept == [denied(number) for number in range(1, 901)]
