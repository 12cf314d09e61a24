"""The audit trail: batches, an unreachable store, and dropped events with their report."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from identity_service.domain.audit import AuditEvent, AuditKind, AuditOutcome, AuditType
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import CallerScopeMissingError, StoreUnavailableError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.origin import Origin
from identity_service.process.background import BackgroundThread
from identity_service.services.audit import LoggedTrail, StoredTrail, record_refusal
from identity_service.services.folding import REFUSED, WINDOW
from tests.fakes.clocks import FakeClock
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE


class SlowStore:
    """A store that takes events only when the test allows it, and fails while `away` is set."""

    def __init__(self) -> None:
        self.batches: list[list[AuditEvent]] = []
        self.away = False
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Semaphore(0)
        self.changed = threading.Condition()

    def append(self, events: Sequence[AuditEvent]) -> None:
        self.asked.release()
        self.open.wait(PATIENCE)
        if self.away:
            raise StoreUnavailableError("away")
        with self.changed:
            self.batches.append(list(events))
            self.changed.notify_all()

    @property
    def events(self) -> list[AuditEvent]:
        return [event for batch in self.batches for event in batch]

    def await_events(self, count: int) -> list[AuditEvent]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.events) >= count, PATIENCE)
            return self.events


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Trail(StoredTrail):
    """An audit trail with the thread that stores its events."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self._thread = BackgroundThread("the thread of a trail", self.run, self.wake)
        self.start = self._thread.start

    def close(self) -> None:
        self._thread.close()
        self._thread.join(PATIENCE)


MakeTrail = Callable[..., Trail]


@pytest.fixture
def make_trail(store: SlowStore, event_log: RecordingEventLog, clock: FakeClock) -> Iterator[MakeTrail]:
    trails: list[Trail] = []

    def make(*, queue: int = 10, burst: int = 1000, store_traffic: bool = True) -> Trail:
        trails.append(Trail(store, event_log, clock, queue=queue, burst=burst, store_traffic=store_traffic))
        return trails[-1]

    yield make
    store.open.set()
    for trail in trails:
        trail.close()


@pytest.fixture
def trail(make_trail: MakeTrail) -> Trail:
    """Return an audit trail that also stores traffic events, such as those of refused calls."""
    return make_trail()


def numbered(number: int) -> AuditEvent:
    return AuditEvent.of(AuditType.TOKEN_ISSUED, target=str(number))


def test_events_arrive_in_their_order(store: SlowStore, trail: Trail) -> None:
    trail.start()

    for number in range(10):
        trail.record(numbered(number))

    assert [event.target for event in store.await_events(10)] == [str(number) for number in range(10)]


def test_events_that_come_while_the_thread_collects_are_stored_in_one_batch(
    store: SlowStore, trail: Trail
) -> None:
    class Stopping(threading.Event):
        """The signal to stop: while the thread waits for it, another event is recorded."""

        def wait(self, timeout: float | None = None) -> bool:
            trail.record(numbered(2))
            self.set()
            return True

    trail.record(numbered(1))
    thread = threading.Thread(target=trail.run, args=[Stopping()], daemon=True)
    thread.start()
    thread.join(PATIENCE)

    assert [[event.target for event in batch] for batch in store.batches] == [["1", "2"]]


def test_recording_an_event_does_not_wait_for_the_store(store: SlowStore, trail: Trail) -> None:
    store.open.clear()
    trail.start()
    trail.record(numbered(0))
    store.asked.acquire(timeout=PATIENCE)

    trail.record(numbered(1))  # returns although the store is at work

    assert store.batches == []
    store.open.set()
    assert [event.target for event in store.await_events(2)] == ["0", "1"]


def test_events_wait_while_the_store_is_unreachable_and_arrive_in_order(
    store: SlowStore, trail: Trail
) -> None:
    store.away = True
    trail.start()
    for number in range(5):
        trail.record(numbered(number))
    store.asked.acquire(timeout=PATIENCE)

    store.away = False

    assert [event.target for event in store.await_events(5)] == ["0", "1", "2", "3", "4"]


def test_an_event_that_finds_the_queue_full_is_dropped_counted_and_reported(
    store: SlowStore, trail: Trail
) -> None:
    for number in range(13):
        trail.record(numbered(number))
    assert trail.dropped == 3

    trail.start()

    events = store.await_events(11)
    assert [event.target for event in events[:10]] == [str(number) for number in range(10)]
    assert (events[10].type, events[10].details) == (AuditType.EVENTS_DROPPED, {"count": "3"})


def test_a_count_of_drops_that_the_store_did_not_take_is_reported_again(
    store: SlowStore, trail: Trail
) -> None:
    for number in range(12):
        trail.record(numbered(number))
    store.away = True
    trail.start()
    store.asked.acquire(timeout=PATIENCE)

    store.away = False

    events = store.await_events(11)
    said = [event.details["count"] for event in events if event.type is AuditType.EVENTS_DROPPED]
    assert (len(events), said, trail.dropped) == (11, ["2"], 2)


def test_a_batch_that_lacks_events_is_followed_by_a_line_with_their_number(
    store: SlowStore, trail: Trail, event_log: RecordingEventLog
) -> None:
    for number in range(13):
        trail.record(numbered(number))

    trail.start()

    assert event_log.wait_for("events_dropped", count="3")["count"] == "3"


def test_closing_stores_the_queued_events(store: SlowStore, trail: Trail) -> None:
    trail.start()
    for number in range(3):
        trail.record(numbered(number))

    trail.close()

    assert [event.target for event in store.events] == ["0", "1", "2"]


def test_closing_a_trail_whose_store_is_unreachable_ends_in_time(store: SlowStore, trail: Trail) -> None:
    store.away = True
    trail.start()
    trail.record(numbered(0))
    store.asked.acquire(timeout=PATIENCE)

    trail.close()

    assert trail._ended


def test_an_event_that_the_store_took_with_its_change_is_logged_and_not_stored_twice(
    store: SlowStore, trail: Trail, event_log: RecordingEventLog
) -> None:
    trail.start()

    trail.stored(numbered(0))
    trail.close()

    assert event_log.names == ["token_issued"]
    assert store.events == []


def refused_call(peer: str = "192.0.2.1:1", type_: AuditType = AuditType.CALL_REFUSED) -> AuditEvent:
    return AuditEvent.of(type_, Origin(peer=peer), outcome=AuditOutcome.REFUSED, reason="R", target="method")


def test_the_store_gets_no_event_of_traffic_unless_the_settings_say_so(
    store: SlowStore, make_trail: MakeTrail, event_log: RecordingEventLog
) -> None:
    trail = make_trail(store_traffic=False)
    trail.start()

    trail.record(numbered(0))
    trail.record(refused_call())
    trail.record(refused_call(type_=AuditType.REFRESH_TOKEN_REUSED))
    trail.close()

    assert event_log.names == ["token_issued", "call_refused", "refresh_token_reused"]
    assert [event.type for event in store.events] == [AuditType.REFRESH_TOKEN_REUSED]


def test_folded_events_are_written_as_one_when_their_window_has_ended(
    store: SlowStore, make_trail: MakeTrail, event_log: RecordingEventLog, clock: FakeClock
) -> None:
    trail = make_trail(queue=100)
    trail.start()
    for port in range(1500):
        trail.record(refused_call(f"192.0.2.1:{port}"))
    whole = [event.peer for event in store.await_events(REFUSED.whole)]
    assert whole == [f"192.0.2.1:{port}" for port in range(REFUSED.whole)]
    assert trail.folded == 1500 - REFUSED.whole

    clock.advance(timedelta(seconds=WINDOW))

    folded = str(1500 - REFUSED.whole)
    line = event_log.wait_for("call_refused", folded=folded)
    assert (line["peer"], line["target"], line["reason"]) == ("192.0.2.1", "method", "R")
    assert store.await_events(REFUSED.whole + 1)[-1].details["folded"] == folded
    assert event_log.names == ["call_refused"] * (REFUSED.whole + 1)


def test_folded_events_that_are_only_logged_need_no_event_for_the_store(
    make_trail: MakeTrail, event_log: RecordingEventLog, clock: FakeClock
) -> None:
    """Traffic events are not stored by default, so no stored event wakes the thread for the summary."""
    trail = make_trail(store_traffic=False)
    trail.start()
    for _ in range(REFUSED.whole + 7):
        trail.record(refused_call())

    clock.advance(timedelta(seconds=WINDOW))

    event_log.wait_for("call_refused", folded="7")


def test_closing_writes_the_folded_events(
    store: SlowStore, make_trail: MakeTrail, event_log: RecordingEventLog
) -> None:
    trail = make_trail(queue=100)
    trail.start()
    for _ in range(REFUSED.whole + 7):
        trail.record(refused_call())

    trail.close()

    assert event_log.wait_for("call_refused", folded="7")
    assert store.events[-1].details["folded"] == "7"


def test_a_flood_of_refused_calls_takes_no_place_in_the_queue_from_stored_events(
    store: SlowStore, make_trail: MakeTrail
) -> None:
    """While the store is unreachable, only events that must be stored fill the queue."""
    trail = make_trail(queue=REFUSED.whole + 1)
    for _ in range(10_000):
        trail.record(refused_call())
    trail.record(refused_call(type_=AuditType.REFRESH_TOKEN_REUSED))

    trail.start()

    assert trail.dropped == 0
    assert store.await_events(REFUSED.whole + 1)[-1].type is AuditType.REFRESH_TOKEN_REUSED


def test_an_event_is_logged_with_its_fields_and_without_those_that_are_empty() -> None:
    event_log = RecordingEventLog()

    LoggedTrail(event_log).record(
        AuditEvent.of(AuditType.SESSION_STARTED, Origin(peer="127.0.0.1:1"), target="s", client_id="web")
    )

    assert event_log.events == [
        (
            "session_started",
            {"client_id": "web", "outcome": "done", "target": "s", "peer": "127.0.0.1:1"},
        )
    ]


def refusal(error: Any) -> AuditEvent:
    events: list[AuditEvent] = []

    class Trail:
        def record(self, event: AuditEvent) -> None:
            events.append(event)

        def stored(self, event: AuditEvent) -> None:
            raise AssertionError

    origin = Origin(peer="127.0.0.1:1", request_id="r", actor=PrincipalId("ops"))
    record_refusal(Trail(), AuditType.CALL_REFUSED, error, origin, target="method")
    return events[0]


def test_a_refused_credential_is_recorded_with_a_reason_that_the_caller_does_not_get() -> None:
    event = refusal(CredentialRefusedError("the secret does not match", principal="reports"))

    assert event.outcome is AuditOutcome.REFUSED
    assert (event.target, event.reason) == ("reports", "CREDENTIAL_REFUSED")
    assert event.details == {"why": "the secret does not match"}


def test_another_refusal_is_recorded_with_its_message() -> None:
    event = refusal(CallerScopeMissingError("the caller lacks the scope x"))

    assert (event.actor, event.target, event.reason) == ("ops", "method", "CALLER_SCOPE_MISSING")
    assert event.details == {"why": "the caller lacks the scope x"}


def test_details_of_an_event_are_bounded() -> None:
    event = AuditEvent.of(AuditType.TOKEN_REVOKED, target="t" * 9999, reason="r" * 9999, why="w" * 9999)

    assert {len(event.target), len(event.reason), len(event.details["why"])} == {512}


def test_every_type_of_event_is_on_the_page_about_them() -> None:
    page = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()

    assert [type_.value for type_ in AuditType if f"`{type_.value}`" not in page] == []


def test_every_type_of_event_is_one_of_a_change_or_of_traffic() -> None:
    assert {type_.kind for type_ in AuditType} == set(AuditKind)


def test_the_page_names_the_kind_of_every_event_type() -> None:
    page = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
    changes, _, traffic = page.partition("### Of changes")[2].partition("### Of traffic")

    for type_ in AuditType:
        assert f"`{type_.value}`" in (changes if type_.kind is AuditKind.CHANGE else traffic)


def test_every_event_counts_once_whether_it_is_folded_or_stored(
    store: SlowStore, clock: FakeClock, make_trail: MakeTrail
) -> None:
    trail = make_trail(burst=2)
    for number in range(5):
        trail.record(numbered(number))
    trail.stored(AuditEvent.of(AuditType.TOKEN_REVOKED))
    assert trail.folded == 3

    trail.start()
    trail.close()  # writes the summary of the folded events

    assert trail.counts == {(AuditType.TOKEN_ISSUED, ""): 5, (AuditType.TOKEN_REVOKED, ""): 1}


def test_only_the_reasons_of_errors_are_told_apart_in_the_counts(trail: Trail) -> None:
    """The reason of a revocation is free text by its caller, so there may be any number of them."""
    trail.record(AuditEvent.of(AuditType.REFRESH_REFUSED, reason="SESSION_ENDED"))
    trail.stored(AuditEvent.of(AuditType.SESSION_REVOKED, reason="a text of the caller"))

    assert trail.counts == {
        (AuditType.REFRESH_REFUSED, "SESSION_ENDED"): 1,
        (AuditType.SESSION_REVOKED, ""): 1,
    }
