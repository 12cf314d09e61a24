"""An event that unauthenticated callers can cause is logged at most once a minute, with a count."""

from datetime import timedelta

from identity_service.replication.rate_limited_event import RateLimitedEvent
from tests.fakes.clocks import FakeClock
from tests.fakes.event_logs import RecordingEventLog


def counted(*counts: int) -> list[tuple[str, dict[str, int]]]:
    return [("seen", {"count": count}) for count in counts]


def test_the_first_is_recorded_and_those_that_follow_are_counted() -> None:
    clock, event_log = FakeClock(), RecordingEventLog()
    event = RateLimitedEvent("seen", event_log, clock)
    for _ in range(1000):
        event.happened()
    assert event_log.events == counted(1)
    clock.advance(timedelta(seconds=60))
    event.happened()
    event.happened()
    assert event_log.events == counted(1, 1000)
    clock.advance(timedelta(seconds=3600))
    event.happened()
    assert event_log.events == counted(1, 1000, 2)
