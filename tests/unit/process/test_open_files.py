"""The limit of open files is raised to what max_connections needs, as far as the system allows."""

import resource

import pytest

from identity_service.process import open_files
from tests.fakes.event_logs import RecordingEventLog

Limit = tuple[int, int]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> list[Limit]:
    """Return the limits (soft, hard) that the process has had, the newest last; (1,024, 4,096) at first."""
    history: list[Limit] = [(1024, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: history[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: history.append(new))
    return history


def test_the_limit_is_raised_to_the_number_that_the_connections_need(limit: list[Limit]) -> None:
    event_log = RecordingEventLog()

    open_files.allow(2000, event_log)

    assert limit[-1] == (2256, 4096)
    assert event_log.events == []


def test_a_sufficient_limit_is_left_as_it_is(limit: list[Limit]) -> None:
    open_files.allow(100, RecordingEventLog())

    assert limit == [(1024, 4096)]


def test_a_lower_limit_of_the_system_is_reported_to_the_operator(limit: list[Limit]) -> None:
    event_log = RecordingEventLog()

    open_files.allow(20_000, event_log)

    assert limit[-1] == (4096, 4096)
    assert event_log.named("files_limited") == [{"max_connections": 20_000, "open_files": 4096}]


def test_a_system_that_refuses_to_raise_it_is_no_reason_not_to_start(
    limit: list[Limit], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int, new: Limit) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    event_log = RecordingEventLog()

    open_files.allow(2000, event_log)

    assert event_log.named("files_limited") == [{"max_connections": 2000, "open_files": 1024}]
