"""Values that a store keeps beside the log: the longest lifetimes ever set, its latest time, heartbeats."""

from datetime import UTC, datetime, timedelta

import pytest

from identity_service.domain.audit import AuditFilter
from identity_service.domain.change_log import STATUS_LENGTH
from identity_service.domain.errors import StoreUninitializedError
from identity_service.domain.log import Heartbeat, Marks
from identity_service.domain.store import Store
from tests.conformance.backends import Backend
from tests.conformance.replicas import follow
from tests.conformance.samples import an_event
from tests.fakes.clocks import FakeClock

HOUR = timedelta(hours=1)
NOON = datetime(2100, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def test_a_new_store_has_no_marks(store: Store) -> None:
    head = store.log.head()
    assert (head.marks, head.complete) == (Marks(), True)


def test_a_heartbeat_raises_the_marks_and_lowers_none(
    store: Store, backend: Backend, clock: FakeClock
) -> None:
    store.log.heartbeat("p", marks=Marks(lifetime=HOUR, session=2 * HOUR, leeway=HOUR / 60, time=NOON))
    lower = Marks(lifetime=2 * HOUR, session=HOUR, leeway=timedelta(0), time=NOON - HOUR)

    now = clock.now()
    raised = Marks(lifetime=2 * HOUR, session=2 * HOUR, leeway=HOUR / 60, time=NOON, latest=now)
    assert backend.open().log.heartbeat("q", marks=lower).marks == raised
    assert store.log.heartbeat("p").marks == raised
    assert store.log.head().marks == raised
    assert store.log.read(0, 10).head.marks == raised


def test_an_operator_sets_the_latest_steady_time_back(store: Store, backend: Backend) -> None:
    store.log.heartbeat("p", marks=Marks(lifetime=HOUR, time=NOON))
    for count in (1, 2):
        head = backend.open().accept_clock(NOON - count * HOUR)
        accepted = NOON - count * HOUR
        assert head.marks == Marks(lifetime=HOUR, time=accepted, latest=accepted)
    assert store.log.head().marks.time == NOON - 2 * HOUR
    assert store.log.heartbeat("p").marks.time == NOON - 2 * HOUR


def test_the_latest_time_of_any_heartbeat_is_kept_however_short_the_clock_showed_it(
    store: Store, clock: FakeClock
) -> None:
    store.log.heartbeat("p")
    clock.advance(30 * HOUR)
    ahead = clock.now()
    store.log.heartbeat("p")
    clock.advance(-30 * HOUR)

    marks = store.log.heartbeat("q").marks
    assert (marks.time, marks.latest) == (None, ahead)


def test_accepting_a_clock_is_audited_in_the_same_step(store: Store) -> None:
    store.accept_clock(NOON, audit=an_event("clock"))
    events, _ = store.audit.list_newest(AuditFilter())
    assert [event.event.target for event in events] == ["clock"]


def test_a_store_without_an_epoch_accepts_no_clock(backend: Backend) -> None:
    with pytest.raises(StoreUninitializedError):
        backend.open().accept_clock(NOON)


def test_heartbeats_of_the_last_hour_are_listed_with_their_status(store: Store, clock: FakeClock) -> None:
    store.log.heartbeat("gone", status="long ago")
    clock.advance(HOUR - timedelta(seconds=1))
    store.log.heartbeat("q")
    store.log.heartbeat("p", status="old")
    clock.advance(timedelta(seconds=1))
    store.log.heartbeat("p", status="clock ok; store ok")

    assert store.log.heartbeats() == (
        Heartbeat(process="p", time=clock.now(), status="clock ok; store ok"),
        Heartbeat(process="q", time=clock.now() - timedelta(seconds=1), status=""),
    )


def test_a_long_status_is_cut(store: Store) -> None:
    store.log.heartbeat("p", status="x" * (STATUS_LENGTH + 1))
    assert store.log.heartbeats()[0].status == "x" * STATUS_LENGTH


def test_a_process_gives_the_longest_that_it_knows_to_a_store_that_lost_it(
    store: Store, backend: Backend
) -> None:
    store.log.heartbeat("gone", marks=Marks(lifetime=9 * HOUR, session=8 * HOUR, leeway=HOUR / 60, time=NOON))
    _, replica, _ = follow(backend)
    backend.wipe()
    replica.heartbeat("p")

    now = backend.clock.now()
    known = Marks(lifetime=9 * HOUR, session=8 * HOUR, leeway=HOUR / 60, latest=now)
    assert replica.marks == known
    assert backend.open().log.head().marks == known, (
        "all but the time, which only an offset that held may raise"
    )
