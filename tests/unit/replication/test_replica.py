"""The replica: it applies the log, knows its revision and staleness, and refuses to answer unless fresh.

The log is a list in memory that tests may damage. The conformance suite tests the logs of the real stores.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from identity_service.domain.errors import (
    ClockSkewedError,
    NotReadyError,
    ReplicaStaleError,
    RevisionNotReachedError,
    StoreDamagedError,
    StoreUnavailableError,
    UnavailableError,
    UnsafeStoreError,
)
from identity_service.domain.ids import NO_LINK, Epoch, Link, PrincipalId, TokenId
from identity_service.domain.log import (
    Appended,
    Generation,
    GenerationRaised,
    Head,
    LogPage,
    Marks,
    RecordChanged,
    RecordKind,
    Revision,
    TokenDenied,
)
from identity_service.replication.replica import Replica, ReplicaConfig
from tests.fakes.change_logs import MemoryChangeLog
from tests.fakes.clocks import FakeClock
from tests.fakes.event_logs import RecordingEventLog
from tests.fakes.log_listeners import FakeLogListener
from tests.patience import PATIENCE

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def log(clock: FakeClock) -> MemoryChangeLog:
    return MemoryChangeLog(clock)


@pytest.fixture
def replica(log: MemoryChangeLog, clock: FakeClock, event_log: RecordingEventLog) -> Replica:
    return Replica(log, clock, event_log, ReplicaConfig())


def denied(name: str, until: datetime = NOW + timedelta(hours=1)) -> TokenDenied:
    return TokenDenied(token_id=TokenId(name), deny_until=until)


def test_it_is_not_ready_before_it_has_read_the_log(replica: Replica, log: MemoryChangeLog) -> None:
    for require in (replica.require_ready, replica.require_fresh, lambda: replica.reach(None)):
        with pytest.raises(NotReadyError):
            require()

    replica.load()
    replica.require_ready()
    with pytest.raises(ReplicaStaleError):
        replica.require_fresh()  # no heartbeat has confirmed it yet
    replica.heartbeat("p")
    replica.require_fresh()
    assert log.adopted == "e1"


def test_loading_reads_generations_and_the_whole_log(replica: Replica, log: MemoryChangeLog) -> None:
    log.generation_table[PrincipalId("old")] = Generation(number=3, link=Link("x"))
    for number in range(2500):
        log.append(denied(f"t{number}"))

    replica.load()

    assert len(replica.revocations.denylist) == 2500
    assert replica.revocations.generations[PrincipalId("old")].number == 3
    assert replica.revision == Revision(epoch=Epoch("e1"), position=2500, link=Link("e1-2500"))


def once_while_reading(log: MemoryChangeLog, happens: Callable[[], None]) -> None:
    """Call `happens` before the fourth page of the log is read."""

    def before_read(after: int) -> None:
        if log.reads == 3:
            log.reads += 1
            happens()

    log.before_read = before_read


def test_reading_a_long_log_continues_at_the_page_that_failed(
    replica: Replica, log: MemoryChangeLog, event_log: RecordingEventLog
) -> None:
    def fail() -> None:
        raise StoreUnavailableError("away")

    once_while_reading(log, fail)
    for number in range(4500):
        log.append(denied(f"t{number}"))

    with pytest.raises(StoreUnavailableError):
        replica.load()
    assert 0 < replica.revision.position < 4500
    replica.catch_up()

    assert len(replica.revocations.denylist) == 4500
    assert event_log.names == []


def test_a_long_log_that_is_replaced_while_it_is_read_is_read_again(
    replica: Replica, log: MemoryChangeLog, event_log: RecordingEventLog
) -> None:
    def replace_it() -> None:
        log.epoch, log.entries = Epoch("e2"), []
        for number in range(3500):
            log.append(denied(f"other{number}"))

    once_while_reading(log, replace_it)
    for number in range(4500):
        log.append(denied(f"t{number}"))

    replica.load()

    assert replica.revision == Revision(epoch=Epoch("e2"), position=3500, link=Link("e2-3500"))
    assert {f"other{number}" for number in range(3500)} <= {
        id_ for id_, _ in replica.revocations.denylist.items()
    }
    assert event_log.names == ["log_replaced"]


def test_a_long_log_in_which_entries_are_missing_is_read_around_them(
    replica: Replica, log: MemoryChangeLog, event_log: RecordingEventLog
) -> None:
    for number in range(1, 6501):
        log.append(denied(f"t{number}"))
    log.entries, log.floor = log.entries[:1500] + log.entries[2700:], 2700

    replica.load()

    assert len(replica.revocations.denylist) == 6500 - 1200
    assert replica.revision.position == 6500
    assert event_log.names == []


def test_listeners_are_notified_of_the_end_of_a_log_whose_last_entries_are_missing(
    replica: Replica, log: MemoryChangeLog
) -> None:
    """Otherwise a watcher would stay one entry behind until the next change, although it has every entry."""
    notified: list[Revision] = []
    replica.follow(FakeLogListener(changed=notified.append, replaced=notified.append))
    for number in range(10):
        log.append(denied(f"t{number}"))
    log.floor = log.end = 10
    del log.entries[3:]

    replica.load()

    assert replica.revision.position == 10
    assert notified[-1] == replica.revision


def test_the_next_page_is_asked_for_while_one_is_folded(replica: Replica, log: MemoryChangeLog) -> None:
    asked = threading.Event()

    def before_read(after: int) -> None:
        if after == 1000:
            asked.set()

    def wait(revision: Revision) -> None:
        assert asked.wait(PATIENCE)

    log.before_read = before_read
    for number in range(1500):
        log.append(denied(f"t{number}"))
    replica.follow(FakeLogListener(changed=wait))

    replica.load()

    assert replica.revision.position == 1500


def test_staleness_counts_from_when_the_heartbeat_was_sent(replica: Replica, clock: FakeClock) -> None:
    replica.load()
    replica.heartbeat("p")
    clock.advance(timedelta(seconds=5))
    replica.require_fresh()
    assert replica.staleness == 5
    clock.advance(timedelta(seconds=0.1))
    with pytest.raises(ReplicaStaleError):
        replica.require_fresh()
    assert not replica.is_fresh()
    replica.heartbeat("p")
    assert replica.is_fresh()


@pytest.mark.parametrize("kind", [StoreDamagedError, UnsafeStoreError])
def test_a_store_that_an_operator_must_repair_is_reported_instead_of_staleness(
    replica: Replica,
    log: MemoryChangeLog,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[UnavailableError],
) -> None:
    """The error that has a remedy is shown, even if other reads of the store fail with a vague one."""
    replica.load()
    replica.heartbeat("p")
    clock.advance(timedelta(seconds=6))

    def fails(error: UnavailableError) -> Callable[..., Any]:
        def call(*_: object, **__: object) -> Any:
            raise error

        return call

    with monkeypatch.context() as broken:
        broken.setattr(log, "heartbeat", fails(kind("the file x is damaged")))
        broken.setattr(log, "read", fails(StoreUnavailableError("the store cannot be read")))
        calls: list[Callable[[], None]] = [lambda: replica.heartbeat("p"), replica.catch_up]
        for call in calls:
            with pytest.raises(StoreUnavailableError):
                call()
            with pytest.raises(kind, match="the file x is damaged"):
                replica.require_fresh()
    replica.heartbeat("p")
    replica.require_fresh()
    clock.advance(timedelta(seconds=6))
    with pytest.raises(ReplicaStaleError):
        replica.require_fresh()


def test_a_heartbeat_counts_only_once_its_head_has_been_read(
    replica: Replica, log: MemoryChangeLog, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.load()
    replica.heartbeat("p")
    log.append(denied("t1"))
    clock.advance(timedelta(seconds=1))

    def broken(after: int, limit: int) -> LogPage:
        raise StoreUnavailableError("cut off between the two")

    monkeypatch.setattr(log, "read", broken)
    with pytest.raises(StoreUnavailableError):
        replica.heartbeat("p")
    assert replica.staleness == 1

    monkeypatch.undo()
    clock.advance(timedelta(seconds=1))
    replica.catch_up()
    assert replica.staleness == 1
    assert "t1" in replica.revocations.denylist


def test_a_clock_that_differs_too_much_is_an_error_until_it_does_not(
    replica: Replica, log: MemoryChangeLog, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.load()
    for difference, fine in ((9, True), (11, False), (-11, False), (-9, True)):
        head = replace(log.head(), time=NOW + timedelta(seconds=difference))
        monkeypatch.setattr(log, "heartbeat", lambda *_, head=head, **__: head)
        replica.heartbeat("p")
        if fine:
            replica.require_fresh()
        else:
            with pytest.raises(ClockSkewedError):
                replica.require_fresh()


def test_a_clock_that_was_stepped_ahead_makes_it_forget_nothing(
    replica: Replica, log: MemoryChangeLog, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(denied("t1"))
    replica.load()
    real = log.head()
    clock.step(timedelta(hours=5))
    monkeypatch.setattr(log, "heartbeat", lambda *_, **__: real)
    replica.heartbeat("p")
    clock.step(-timedelta(hours=5))
    replica.heartbeat("p")

    assert "t1" in replica.revocations.denylist
    # As long as this clock may be set back so far that the token has not expired by it.
    clock.advance(timedelta(hours=1, minutes=1, seconds=9))
    monkeypatch.setattr(log, "heartbeat", lambda *_, **__: replace(real, time=clock.now()))
    replica.heartbeat("p")
    assert "t1" in replica.revocations.denylist
    clock.advance(timedelta(seconds=3600))
    monkeypatch.setattr(log, "heartbeat", lambda *_, **__: replace(real, time=clock.now()))
    replica.heartbeat("p")
    assert "t1" not in replica.revocations.denylist


@pytest.mark.parametrize("hours", [1, 5, 30])
def test_a_clock_that_the_store_shares_may_be_ahead_for_a_moment_and_nothing_is_forgotten(
    replica: Replica, log: MemoryChangeLog, clock: FakeClock, hours: int
) -> None:
    log.append(denied("t1"))
    replica.load()
    replica.heartbeat("p")
    clock.step(timedelta(hours=hours))
    with pytest.raises(ClockSkewedError, match="was set"):
        replica.require_fresh()
    replica.heartbeat("p")
    replica.require_fresh()
    reads = log.reads

    clock.step(-timedelta(hours=hours))
    with pytest.raises(ClockSkewedError):
        replica.require_fresh()
    replica.heartbeat("p")
    replica.require_fresh()

    assert "t1" in replica.revocations.denylist
    assert log.reads == reads, "the clock is the one by which the log was read"


def test_a_clock_that_was_ahead_when_the_log_was_read_makes_it_read_again_once_it_is_right(
    replica: Replica, log: MemoryChangeLog, clock: FakeClock
) -> None:
    log.append(denied("t1"))
    clock.step(timedelta(hours=5))
    replica.load()
    replica.heartbeat("p")
    assert "t1" not in replica.revocations.denylist

    clock.step(-timedelta(hours=5))
    replica.heartbeat("p")

    replica.require_fresh()
    assert "t1" in replica.revocations.denylist


def test_a_clock_that_was_set_back_is_not_accepted_before_the_log_was_read_again(
    replica: Replica, log: MemoryChangeLog, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.load()
    replica.heartbeat("p")

    def broken(after: int, limit: int) -> LogPage:
        raise StoreUnavailableError("cut off between the two")

    monkeypatch.setattr(log, "read", broken)
    clock.step(-timedelta(hours=1))
    with pytest.raises(StoreUnavailableError):
        replica.heartbeat("p")
    assert not replica.is_fresh()
    monkeypatch.undo()
    replica.heartbeat("p")
    assert replica.is_fresh()


def test_a_clock_far_behind_what_the_store_remembers_is_refused_until_an_operator_accepts_it(
    replica: Replica,
    log: MemoryChangeLog,
    clock: FakeClock,
    event_log: RecordingEventLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica.load()
    for mark, status in ((timedelta(hours=4), "identity clock accept"), (timedelta(0), "fresh")):
        head = replace(log.head(), marks=Marks(time=clock.now() + mark))
        monkeypatch.setattr(log, "heartbeat", lambda *_, head=head, **__: head)
        for _ in range(2):
            replica.heartbeat("p")
            assert status in replica.status
    assert [event for event in event_log.names if "clock" in event] == ["clock_refused", "clock_accepted"]


def test_the_time_is_written_to_the_store_only_after_ten_steady_minutes(
    replica: Replica, log: MemoryChangeLog, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    notified: list[datetime | None] = []
    real = log.heartbeat

    def heartbeat(process: str, retention: timedelta, *, marks: Marks, status: str) -> Head:
        notified.append(marks.time)
        return real(process)

    monkeypatch.setattr(log, "heartbeat", heartbeat)
    replica.load()
    replica.heartbeat("p")
    clock.step(timedelta(hours=1))
    replica.heartbeat("p")
    clock.advance(timedelta(seconds=599))
    replica.heartbeat("p")
    clock.advance(timedelta(seconds=1))
    replica.heartbeat("p")

    assert notified == [None, None, None, clock.now()]


def test_own_writes_are_applied_at_once_and_the_revision_stays(
    replica: Replica, log: MemoryChangeLog
) -> None:
    replica.load()
    before, entry = replica.revision, log.append(denied("t1"))
    notified: list[Any] = []
    replica.subscribe(notified.append)
    changed = RecordChanged(kind=RecordKind.CLIENT, id="c")

    replica.learn(
        Appended(
            revision=Revision(epoch=log.epoch, position=entry.position, link=entry.link),
            changes=((entry.change, entry.link), (changed, Link("x"))),
        )
    )

    assert "t1" in replica.revocations.denylist
    assert replica.revision == before
    assert notified == [[changed]]


def test_reach_reads_only_what_is_not_known(replica: Replica, log: MemoryChangeLog) -> None:
    log.append(denied("t1"))
    replica.load()
    reads = log.reads

    replica.reach(replica.revision)
    assert log.reads == reads
    log.append(denied("t2"))
    replica.reach(Revision(epoch=log.epoch, position=2, link=log.entries[-1].link))
    assert log.reads == reads + 1
    assert "t2" in replica.revocations.denylist
    replica.reach(Revision(epoch=Epoch("other"), position=99, link=Link("l")))  # another log: as strong
    assert log.reads == reads + 2


@pytest.mark.parametrize("link", [Link("l"), None], ids=["a link", "no link"])
def test_a_place_past_the_end_is_not_reached_after_one_read(
    replica: Replica, log: MemoryChangeLog, event_log: RecordingEventLog, link: Link | None
) -> None:
    log.append(denied("t1"))
    replica.load()
    reads = log.reads
    with pytest.raises(RevisionNotReachedError):
        replica.reach(Revision(epoch=log.epoch, position=2, link=link))
    assert log.reads == reads + 1
    assert event_log.names == []


STRANGERS: dict[str, Revision] = {
    "another link": Revision(epoch=Epoch("e1"), position=1, link=Link("other")),
    "another link at the end": Revision(epoch=Epoch("e1"), position=2, link=Link("other")),
    "no link": Revision(epoch=Epoch("e1"), position=2, link=None),
    "another epoch": Revision(epoch=Epoch("e0"), position=1, link=Link("e1-1")),
    "another epoch, far ahead": Revision(epoch=Epoch("e0"), position=2**63 - 1, link=Link("x")),
    "another epoch's start": Revision(epoch=Epoch("e0"), position=0, link=NO_LINK),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_place_of_another_history_has_the_log_read_to_its_end_and_never_from_its_start(
    replica: Replica,
    log: MemoryChangeLog,
    event_log: RecordingEventLog,
    monkeypatch: pytest.MonkeyPatch,
    stranger: str,
) -> None:
    """The process then knows everything in the log, as after a read with `strong`.

    A client's revision must never make the process read the whole log again.
    """
    log.append(denied("t1"))
    log.append(denied("t2"))
    replica.load()
    log.append(denied("t3"))
    asked: list[int] = []
    real = log.read

    def read(after: int, limit: int) -> LogPage:
        asked.append(after)
        return real(after, limit)

    monkeypatch.setattr(log, "read", read)

    for _ in range(5):
        replica.reach(STRANGERS[stranger])

    assert "t3" in replica.revocations.denylist
    assert min(asked) == 2, "from where this process had read"
    assert len(asked) <= 2 * 5
    assert log.epoch == "e1"
    assert event_log.names == ["revision_unrecognised"], "once"


def test_a_place_of_too_long_ago_acts_as_strong(
    replica: Replica, log: MemoryChangeLog, event_log: RecordingEventLog
) -> None:
    first = log.append(denied("t1"))
    for number in range(10_000):
        log.append(denied(f"n{number}"))
    replica.load()
    reads = log.reads
    replica.reach(Revision(epoch=log.epoch, position=1, link=first.link))
    assert log.reads == reads + 1
    assert event_log.names == ["revision_unrecognised"]


def test_a_revision_that_was_read_is_reached_without_the_store(
    replica: Replica, log: MemoryChangeLog, event_log: RecordingEventLog
) -> None:
    entries = [log.append(denied(f"t{number}")) for number in range(2500)]
    replica.load()
    reads = log.reads
    for entry in entries:
        replica.reach(Revision(epoch=log.epoch, position=entry.position, link=entry.link))
    replica.reach(Revision(epoch=log.epoch, position=0, link=NO_LINK))
    assert log.reads == reads
    assert event_log.names == []


def test_a_heartbeat_of_another_history_confirms_nothing(
    replica: Replica, log: MemoryChangeLog, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator has restored the store, and it is unreachable again before this process notices."""
    log.append(denied("t1"))
    log.append(denied("t2"))
    replica.load()
    replica.heartbeat("p")
    clock.advance(timedelta(seconds=3.0))
    log.entries[:] = []
    log.append(denied("u1"))
    other = replace(log.head(), link=Link("other"))
    monkeypatch.setattr(log, "heartbeat", lambda *_, **__: other)
    monkeypatch.setattr(log, "read", _away)
    with pytest.raises(StoreUnavailableError):
        replica.heartbeat("p")
    replica._confirm()  # as the follower does at the end of a read that had begun before
    assert replica.staleness == 3.0


def _away(after: int, limit: int) -> LogPage:
    raise StoreUnavailableError("away")


def test_a_record_that_changed_is_announced_before_the_revision_passes_it(
    replica: Replica, log: MemoryChangeLog
) -> None:
    replica.load()
    seen: list[tuple[object, int]] = []
    replica.subscribe(lambda change: seen.append((change, replica.revision.position)))
    changed = RecordChanged(kind=RecordKind.KEY, id="k1")
    log.append(changed)

    replica.catch_up()

    assert seen == [([changed], 0)]
    assert replica.revision.position == 1


def test_records_whose_changes_are_read_together_are_announced_together(
    replica: Replica, log: MemoryChangeLog
) -> None:
    """A callback may read all records of a kind; one call per change could make a start take minutes."""
    replica.load()
    notified: list[object] = []
    replica.subscribe(notified.append)
    changed = [RecordChanged(kind=RecordKind.ISSUER, id=f"https://{number}.example") for number in range(9)]
    for change in changed:
        log.append(change)
    log.append(denied("t1"))

    replica.catch_up()
    log.append(denied("t2"))
    replica.catch_up()

    assert notified == [changed]


def test_a_callback_that_fails_holds_the_revision_back(replica: Replica, log: MemoryChangeLog) -> None:
    replica.load()
    fail = True

    def fail_once(_: object) -> None:
        if fail:
            raise StoreUnavailableError("cannot read the key")

    replica.subscribe(fail_once)
    log.append(RecordChanged(kind=RecordKind.KEY, id="k1"))
    with pytest.raises(StoreUnavailableError):
        replica.catch_up()
    assert replica.revision.position == 0
    fail = False
    replica.catch_up()
    assert replica.revision.position == 1


@pytest.mark.parametrize(
    "how", ["another epoch", "emptied", "shortened", "rewritten", "rewritten and longer"]
)
def test_a_replaced_log_is_noticed_and_known_facts_are_kept(
    replica: Replica, log: MemoryChangeLog, event_log: RecordingEventLog, how: str
) -> None:
    for name in ("t1", "t2", "t3"):
        log.append(denied(name))
    replica.load()
    replica.heartbeat("p")
    kept = {"another epoch": 3, "emptied": 0, "shortened": 2, "rewritten": 2, "rewritten and longer": 2}[how]
    log.entries = log.entries[:kept]
    if how == "another epoch":
        log.epoch = Epoch("e2")
    if how.startswith("rewritten"):
        log.epoch = Epoch("x")
        log.append(denied("n1"))
        log.append(denied("n2")) if how.endswith("longer") else None
        log.epoch = Epoch("e1")

    replica.heartbeat("p")

    assert event_log.names == ["log_replaced"] + ["epoch_renewed"] * (how != "another epoch")
    assert all(name in replica.revocations.denylist for name in ("t1", "t2", "t3"))
    assert ("n1" in replica.revocations.denylist) == how.startswith("rewritten")
    assert replica.revision == log.head().revision
    assert replica.is_fresh()

    replica.maintenance.do()
    assert {fact.token_id for fact in log.repaired if isinstance(fact, TokenDenied)} >= {"t1", "t2", "t3"}


def test_a_replaced_log_is_repaired_also_when_reading_it_fails_at_first(
    replica: Replica, log: MemoryChangeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("t1", "t2", "t3"):
        log.append(denied(name))
    replica.load()
    log.entries, log.epoch = log.entries[:1], Epoch("e2")
    real, calls = log.read, list[int]()

    def breaks_once(after: int, limit: int) -> LogPage:
        calls.append(after)
        if len(calls) == 2:  # the first page of the log that is there now
            raise StoreUnavailableError("cut off in the middle")
        return real(after, limit)

    monkeypatch.setattr(log, "read", breaks_once)
    with pytest.raises(StoreUnavailableError):
        replica.heartbeat("p")
    replica.heartbeat("p")
    replica.maintenance.do()

    assert {fact.token_id for fact in log.repaired if isinstance(fact, TokenDenied)} == {"t1", "t2", "t3"}


def test_a_log_with_a_gap_gets_a_new_epoch_under_which_the_gap_is_known(
    replica: Replica, log: MemoryChangeLog
) -> None:
    for number in range(2000):
        log.append(denied(f"t{number}"))
    del log.entries[1500]

    replica.load()

    assert log.epoch != "e1"
    assert log.floor == 2000
    assert len(replica.revocations.denylist) == 1999
    log.append(denied("next"))
    replica.heartbeat("p")
    assert "next" in replica.revocations.denylist
    assert replica.is_fresh()


def test_a_log_that_is_replaced_all_the_time_is_not_read_for_ever(
    replica: Replica, log: MemoryChangeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.load()

    def another(after: int, limit: int) -> LogPage:
        log.epoch = Epoch(f"{log.epoch}x")
        return LogPage(entries=(), head=log.head())

    monkeypatch.setattr(log, "read", another)
    with pytest.raises(StoreUnavailableError, match="again and again"):
        replica.catch_up()


def test_a_process_that_was_cut_off_while_the_log_was_trimmed_starts_over_without_a_new_epoch(
    replica: Replica, log: MemoryChangeLog, event_log: RecordingEventLog
) -> None:
    log.append(denied("t1"))
    replica.load()
    for number in range(2, 6):
        log.append(denied(f"t{number}"))
    del log.entries[:4]
    log.floor = 4
    log.generation_table[PrincipalId("p")] = Generation(number=1, link=Link("trimmed"))

    replica.heartbeat("p")

    assert log.epoch == "e1"
    assert event_log.names == ["log_trimmed_meanwhile"]
    assert {"t1", "t5"} <= {id_ for id_, _ in replica.revocations.denylist.items()}
    assert replica.revocations.generations[PrincipalId("p")].number == 1
    replica.maintenance.do()
    assert log.repaired == []


def test_a_new_process_reads_a_trimmed_log_from_its_first_entry(
    replica: Replica, log: MemoryChangeLog
) -> None:
    for number in range(1, 6):
        log.append(denied(f"t{number}"))
    del log.entries[:3]
    log.floor = 3

    replica.load()

    assert log.epoch == "e1"
    assert replica.revision.position == 5


def test_callers_share_a_read_that_began_after_they_came(replica: Replica, log: MemoryChangeLog) -> None:
    replica.load()
    reads = log.reads
    replica._reads_begun += 1  # one is in progress; it began before this caller came
    replica.catch_up()
    assert log.reads == reads + 1


def test_generations_are_folded_with_the_link_of_their_entry(replica: Replica, log: MemoryChangeLog) -> None:
    replica.load()
    entry = log.append(GenerationRaised(principal=PrincipalId("p"), number=1))
    replica.catch_up()

    assert replica.revocations.generations[PrincipalId("p")] == Generation(number=1, link=entry.link)


def test_a_raise_of_this_process_while_the_log_is_read_again_is_not_doubted(
    replica: Replica, log: MemoryChangeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watchers get the generations at once.

    A second link for the same number would stay with them for ever.
    """
    alice, read_table = PrincipalId("alice"), log.generations
    notified: list[Mapping[PrincipalId, Generation]] = []

    log.generation_table = {alice: Generation(number=1, link=Link("one"))}
    replica.load()
    replica.follow(FakeLogListener(replaced=lambda _: notified.append(dict(replica.revocations.generations))))
    raised = Generation(number=2, link=Link("two"))

    def overtaken() -> Mapping[PrincipalId, Generation]:
        found = dict(read_table())
        change = GenerationRaised(principal=alice, number=2)
        entry = log.append(change)._replace(link=raised.link)
        log.entries[-1], log.generation_table = entry, {alice: raised}
        replica.learn(Appended(revision=log.head().revision, changes=((change, raised.link),)))
        return found

    monkeypatch.setattr(log, "generations", overtaken)
    replica._reader.start_over()

    assert notified == [{alice: raised}]


@pytest.mark.parametrize("fails", ["generations", "a callback"])
def test_a_clock_that_was_set_back_is_not_accepted_by_a_read_that_could_not_begin(
    replica: Replica, log: MemoryChangeLog, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    clock.step(timedelta(hours=5))
    log.append(denied("t1"))
    replica.load()
    replica.heartbeat("p")
    assert "t1" not in replica.revocations.denylist
    is_away = [False]

    def away(*_: object) -> Any:
        if is_away[0]:
            raise StoreUnavailableError("away")
        return {}

    if fails == "generations":
        monkeypatch.setattr(log, "generations", away)
    else:
        replica.subscribe(away)
    clock.step(-timedelta(hours=5))
    is_away[0] = True
    with pytest.raises(StoreUnavailableError):
        replica.heartbeat("p")
    replica.catch_up()
    assert not replica.is_fresh()
    is_away[0] = False
    replica.heartbeat("p")

    replica.require_fresh()
    assert "t1" in replica.revocations.denylist


def test_a_log_that_loses_entries_while_it_is_first_read_is_completed_before_anything_is_answered(
    clock: FakeClock, event_log: RecordingEventLog
) -> None:
    class ShrinkingLog(MemoryChangeLog):
        complete = True

        def head(self) -> Head:
            return replace(super().head(), complete=self.complete)

        def read(self, after: int, limit: int) -> LogPage:
            if self.reads == 2:
                self.lost, self.entries = self.entries[1500:2500], self.entries[:1500] + self.entries[2500:]
            return super().read(after, limit)

        def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
            self.complete = False
            return super().renew(found, epoch)

        def rebuild(self) -> int:
            for entry in self.lost:
                self.append(entry.change)
            self.end, self.complete = 0, True
            return len(self.lost)

    log = ShrinkingLog(clock)
    for number in range(4000):
        log.append(denied(f"t{number}"))
    replica = Replica(log, clock, event_log, ReplicaConfig())
    replica.load()

    assert len(replica.revocations.denylist) == 4000
    assert "log_rebuilt" in event_log.names


def test_a_process_whose_clock_differs_from_the_stores_writes_no_time(
    replica: Replica, log: MemoryChangeLog, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would repeatedly undo an operator's acceptance of the other processes' clock."""
    notified: list[datetime | None] = []
    behind = timedelta(0)

    def heartbeat(process: str, retention: timedelta, *, marks: Marks, status: str) -> Head:
        notified.append(marks.time)
        return replace(log.head(), time=clock.now() - behind)

    monkeypatch.setattr(log, "heartbeat", heartbeat)
    replica.load()
    replica.heartbeat("p")
    clock.advance(timedelta(seconds=600))
    replica.heartbeat("p")
    assert notified[-1] == clock.now()
    behind = timedelta(hours=4)
    replica.heartbeat("p")
    replica.heartbeat("p")

    assert notified[-1] is None
