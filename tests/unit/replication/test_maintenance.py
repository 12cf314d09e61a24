"""LogMaintenance: what one process owes to the log, and when it may trim."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from identity_service.domain.clock_guard import LONGEST_BACK
from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ids import Epoch, Link, SessionId, TokenId
from identity_service.domain.log import (
    Fact,
    Head,
    LogEntry,
    RepairResult,
    Revision,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.revocations import Revocations
from identity_service.replication.maintenance import LogMaintenance

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
HOUR = timedelta(hours=1)


class Clock:
    def __init__(self) -> None:
        self.steady = 0.0

    def now(self) -> datetime:
        return NOW

    def unix(self) -> float:
        return self.now().timestamp()

    def monotonic(self) -> float:
        return self.steady

    def boot(self) -> float:
        return self.monotonic()


class EventLog:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def record(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))


class Log:
    """The part of a store that is used; it may be away."""

    def __init__(self) -> None:
        self.away = False
        self.taken: list[Fact] = []
        self.entries: list[LogEntry] = []
        self.kept: list[Fact] = []
        self.writes = 0
        self.now = Head(epoch=Epoch("e"), position=100_000, link=Link("l"), time=NOW, retention=HOUR)

    def repair(self, facts: Sequence[Fact]) -> RepairResult:
        if self.away:
            raise StoreUnavailableError("away")
        self.writes += 1
        new = [fact for fact in facts if fact not in self.taken]
        self.taken += new
        return RepairResult(end=self.now.revision, absent=len(new))

    def head(self) -> Head:
        return self.now

    def read_entries(self, after: int, limit: int) -> Sequence[LogEntry]:
        return [entry for entry in self.entries if after < entry.position][:limit]

    def trim(self, position: int, keep: Sequence[Fact] = ()) -> int:
        self.now = replace(self.now, floor=position)
        self.kept += keep
        return position


def denied(number: int) -> TokenDenied:
    return TokenDenied(token_id=TokenId(f"t{number}"), deny_until=LATER)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def event_log() -> EventLog:
    return EventLog()


@pytest.fixture
def revocations() -> Revocations:
    return Revocations()


class Following:
    """What the process that owes does with the places up to which its facts were taken."""

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
    log: Log, revocations: Revocations, clock: Clock, event_log: EventLog, following: Following
) -> LogMaintenance:
    return LogMaintenance(log, revocations, clock, event_log, sent=following)  # type: ignore[arg-type]  # a part of it


def test_without_anything_to_do_nothing_is_written(maintenance: LogMaintenance, log: Log) -> None:
    maintenance.do()
    assert log.writes == 0


def test_what_is_owed_is_kept_while_the_store_is_away(maintenance: LogMaintenance, log: Log) -> None:
    maintenance.add_unconfirmed(denied(1))
    maintenance.add_unconfirmed(denied(1))
    maintenance.add_unconfirmed(denied(2))
    log.away = True
    with pytest.raises(StoreUnavailableError):
        maintenance.do()
    assert maintenance.unconfirmed == 2
    log.away = False
    maintenance.do()
    assert (maintenance.unconfirmed, log.taken) == (0, [denied(1), denied(2)])


def test_what_another_history_took_is_tried_again_with_a_pause(
    maintenance: LogMaintenance, log: Log, following: Following, revocations: Revocations, event_log: EventLog
) -> None:
    """Who is told of it owes the facts again; that nothing was done makes the caller wait."""
    maintenance.add_unconfirmed(denied(1))
    following.is_followed = False
    with pytest.raises(StoreUnavailableError, match="another history"):
        maintenance.do()
    assert following.found == [((denied(1),), log.now.revision)]
    revocations.apply(denied(2), Link("l"))
    maintenance.request_repair()
    with pytest.raises(StoreUnavailableError, match="another history"):
        maintenance.do()
    assert following.found[1:] == [((), log.now.revision)], "a part of all that is known"
    assert event_log.events == []
    following.is_followed = True
    maintenance.do()
    assert event_log.events == [("log_repaired", {"known": 1, "absent": 0})]


def test_what_is_owed_is_bounded_and_what_is_dropped_is_said(
    maintenance: LogMaintenance, event_log: EventLog
) -> None:
    for number in range(10_002):
        maintenance.add_unconfirmed(denied(number))
    assert maintenance.unconfirmed == 10_000
    assert [event for event, _ in event_log.events] == ["resend_dropped"] * 2


def test_everything_is_sent_in_pieces_once_for_each_loss(
    maintenance: LogMaintenance, log: Log, revocations: Revocations, event_log: EventLog
) -> None:
    for number in range(1000):
        revocations.apply(denied(number), Link("l"))
    maintenance.request_repair()
    maintenance.do()
    maintenance.do()
    assert log.writes == 4
    assert event_log.events == [("log_repaired", {"known": 1000, "absent": 1000})]
    maintenance.request_repair()
    maintenance.do()
    assert event_log.events[1:] == [("log_repaired", {"known": 1000, "absent": 0})]


def test_a_repair_that_was_interrupted_is_done_again(
    maintenance: LogMaintenance, log: Log, revocations: Revocations, event_log: EventLog
) -> None:
    revocations.apply(denied(1), Link("l"))
    maintenance.request_repair()
    log.away = True
    with pytest.raises(StoreUnavailableError):
        maintenance.do()
    log.away = False
    maintenance.do()
    assert [event for event, _ in event_log.events] == ["log_repaired"]


def test_only_what_was_held_for_the_retention_is_trimmed(
    maintenance: LogMaintenance, log: Log, clock: Clock
) -> None:
    maintenance.held(log.now, 10_000, NOW)
    clock.steady += 1800
    maintenance.held(log.now, 40_000, NOW)
    clock.steady += 1799
    maintenance.held(log.now, 60_000, NOW)
    maintenance.do()
    assert log.now.floor == 0
    clock.steady += 1
    maintenance.held(log.now, 60_000, NOW)
    maintenance.do()
    assert log.now.floor == 10_000
    clock.steady += 1800
    maintenance.held(log.now, 70_000, NOW)
    maintenance.do()
    assert log.now.floor == 40_000


def test_after_a_loss_holding_begins_anew(maintenance: LogMaintenance, log: Log, clock: Clock) -> None:
    maintenance.held(log.now, 10_000, NOW)
    clock.steady += 3000
    maintenance.request_repair()
    maintenance.held(log.now, 20_000, NOW)
    clock.steady += 3000
    maintenance.held(log.now, 30_000, NOW)
    maintenance.do()
    assert log.now.floor == 0


def test_where_no_retention_is_known_nothing_is_trimmed(
    maintenance: LogMaintenance, log: Log, clock: Clock
) -> None:
    unknown = replace(log.now, retention=timedelta(0))
    for _ in range(5):
        maintenance.held(unknown, 10_000, NOW)
        clock.steady += 1e6
    maintenance.do()
    assert log.now.floor == 0


def test_without_a_time_that_the_store_remembers_nothing_is_trimmed(
    maintenance: LogMaintenance, log: Log, clock: Clock
) -> None:
    """A clock that is set back further than the log reaches could not be told from a right one."""
    for time in (NOW, None):
        maintenance.held(log.now, 10_000, time)
        clock.steady += 3600
    maintenance.held(log.now, 10_000, None)
    maintenance.do()
    assert log.now.floor == 0


def test_what_is_trimmed_and_still_counts_by_some_clock_is_kept(
    maintenance: LogMaintenance, log: Log, clock: Clock
) -> None:
    """As a denial of a token that was issued by a clock which was a day ahead for a moment."""
    ends = {10: -LONGEST_BACK - timedelta(seconds=1), 20: -LONGEST_BACK, 30: timedelta(days=1)}
    for position, end in ends.items():
        denial = TokenDenied(token_id=TokenId(f"t{position}"), deny_until=NOW + end)
        log.entries.append(LogEntry(position, Link("l"), Link("k"), denial))
    session = SessionEnded(session_id=SessionId("s"), deny_until=LATER, end_until=LATER)
    log.entries.append(LogEntry(40, Link("l"), Link("k"), session))
    maintenance.held(log.now, 35, NOW)
    clock.steady += 3600
    maintenance.held(log.now, 50, NOW)
    maintenance.do()

    assert log.now.floor == 35
    assert [fact.token_id for fact in log.kept if isinstance(fact, TokenDenied)] == ["t20", "t30"]
    assert len(log.kept) == 2


def test_many_that_still_count_are_kept_in_several_steps(
    maintenance: LogMaintenance, log: Log, clock: Clock
) -> None:
    log.entries = [LogEntry(n, Link("l"), Link("k"), denied(n)) for n in range(1, 1001)]
    maintenance.held(log.now, 900, NOW)
    clock.steady += 3600
    maintenance.held(log.now, 1000, NOW)
    maintenance.do()

    assert log.now.floor == 900
    assert log.kept == [denied(number) for number in range(1, 901)]
