"""An event that strangers can cause is recorded once a minute, with a count."""

from identity_service.replication.rate_limited_event import RateLimitedEvent
from tests.unit.replication.test_replica import Clock


class EventLog:
    def __init__(self) -> None:
        self.counts: list[object] = []

    def record(self, event: str, **fields: object) -> None:
        assert event == "seen"
        self.counts.append(fields["count"])


def test_the_first_is_recorded_and_those_that_follow_are_counted() -> None:
    clock, event_log = Clock(), EventLog()
    event = RateLimitedEvent("seen", event_log, clock)
    for _ in range(1000):
        event.happened()
    assert event_log.counts == [1]
    clock.steady += 60
    event.happened()
    event.happened()
    assert event_log.counts == [1, 1000]
    clock.steady += 3600
    event.happened()
    assert event_log.counts == [1, 1000, 2]
