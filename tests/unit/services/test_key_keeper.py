"""The thread that rotates signing keys logs a failure once, and continues."""

import threading
from datetime import timedelta

import pytest

from identity_service.domain.errors import StoreFencedError, StoreUnavailableError
from identity_service.services.rotation import keep_keys
from tests.fakes.event_logs import RecordingEventLog


@pytest.mark.parametrize(
    ("error", "said"),
    [(StoreUnavailableError("the store is away"), "the store is away"), (KeyError("a secret"), "KeyError")],
    ids=["foreseen", "a bug"],
)
def test_it_continues_after_an_error_and_reports_it_once(error: Exception, said: str) -> None:
    """If the thread ended, the last key would sign for ever."""
    event_log, tries, stopping = RecordingEventLog(), list[int](), threading.Event()

    def maintain() -> int:
        tries.append(1)
        if len(tries) <= 2:
            raise error
        stopping.set()
        return 0

    keep_keys(maintain, event_log, timedelta(milliseconds=1), stopping)

    assert event_log.events == [("keys_not_maintained", {"error": said})]


def test_a_store_that_was_moved_is_reported_elsewhere_and_each_new_failure_once() -> None:
    """The heartbeat reports that the store was moved. A failure after a success is a new one."""
    event_log, stopping = RecordingEventLog(), threading.Event()
    away = StoreUnavailableError("the store is away")
    outcomes: list[Exception | None] = [StoreFencedError("redis://b"), away, away, None, away, None]

    def maintain() -> int:
        outcome = outcomes.pop(0)
        if not outcomes:
            stopping.set()
        if outcome is not None:
            raise outcome
        return 0

    keep_keys(maintain, event_log, timedelta(milliseconds=1), stopping)

    assert event_log.events == [("keys_not_maintained", {"error": "the store is away"})] * 2


def test_a_store_that_is_closed_because_the_process_stops_is_not_reported() -> None:
    event_log, stopping = RecordingEventLog(), threading.Event()

    def maintain() -> int:
        stopping.set()
        raise StoreUnavailableError("the store is closed")

    keep_keys(maintain, event_log, timedelta(milliseconds=1), stopping)

    assert event_log.events == []
