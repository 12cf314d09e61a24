"""Limits on frequent audit events: the first of a peer and type are written, the others counted."""

from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.audit import AuditEvent, AuditOutcome, AuditType
from identity_service.services.folding import WINDOW, Folding, FoldRule
from tests.fakes.clocks import FakeClock

DONE, REFUSED = AuditOutcome.DONE, AuditOutcome.REFUSED


def an_event(peer: str = "192.0.2.1:5000", **changes: Any) -> AuditEvent:
    values: dict[str, Any] = {"type": AuditType.CALL_REFUSED, "outcome": REFUSED, "reason": "R"}
    return AuditEvent(peer=peer, **(values | changes))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folding(clock: FakeClock) -> Folding:
    return Folding(clock, done=FoldRule(whole=5, keys=3), refused=FoldRule(whole=2, keys=3))


def admitted(folding: Folding, event: AuditEvent, times: int) -> int:
    """Return how many of `times` similar events are written one by one."""
    return [folding.admit(event) for _ in range(times)].count(True)


def summaries(folding: Folding, *, everything: bool = False) -> list[tuple[str, str]]:
    """Return the peer and the count of each summary."""
    return [(e.peer, e.details["folded"]) for e in folding.summaries(everything=everything)]


def end_window(clock: FakeClock) -> None:
    clock.advance(timedelta(seconds=WINDOW))


def test_the_first_event_is_written_at_once_and_needs_no_summary(folding: Folding, clock: FakeClock) -> None:
    assert folding.admit(an_event())
    assert not folding.has_folded

    end_window(clock)

    assert summaries(folding) == []


def test_events_beyond_the_burst_are_summarised_once_when_the_window_has_ended(
    folding: Folding, clock: FakeClock
) -> None:
    assert admitted(folding, an_event(), 10) == 2
    assert folding.has_folded
    clock.advance(timedelta(seconds=WINDOW - 0.1))
    assert summaries(folding) == []

    clock.advance(timedelta(seconds=0.1))

    assert summaries(folding) == [("192.0.2.1", "8")]
    assert summaries(folding) == []
    assert not folding.has_folded


def test_a_new_window_begins_with_the_next_event_even_if_the_last_summary_was_not_read(
    folding: Folding, clock: FakeClock
) -> None:
    admitted(folding, an_event(), 10)
    end_window(clock)

    assert admitted(folding, an_event(), 3) == 2
    assert summaries(folding) == [("192.0.2.1", "8")]
    end_window(clock)
    assert summaries(folding) == [("192.0.2.1", "1")]


@pytest.mark.parametrize(
    "other",
    [
        an_event("192.0.2.2:5000"),
        an_event(type=AuditType.ISSUE_REFUSED),
        an_event(reason="S"),
        an_event(outcome=DONE, type=AuditType.TOKEN_ISSUED, reason=""),
    ],
    ids=["address", "type", "reason", "outcome"],
)
def test_another_address_type_or_reason_is_counted_apart(folding: Folding, other: AuditEvent) -> None:
    admitted(folding, an_event(), 10)

    assert folding.admit(other)


def test_ports_of_an_address_and_hosts_of_an_ipv6_site_are_counted_together(folding: Folding) -> None:
    """An attacker can use any number of ports, and of addresses within one IPv6 network."""
    written = [folding.admit(an_event(f"192.0.2.1:{port}")) for port in range(10)]
    site = [folding.admit(an_event(f"[2001:db8::{host}]:1")) for host in range(1, 11)]

    assert (written.count(True), site.count(True)) == (2, 2)
    assert summaries(folding, everything=True) == [("192.0.2.1", "8"), ("2001:db8::/64", "8")]


def test_a_summary_has_the_fields_that_all_its_events_have_in_common(folding: Folding) -> None:
    admitted(folding, an_event(target="first", request_id="r"), 2)
    for actor in ("a", "b"):
        folding.admit(an_event(target="method", actor=actor, request_id="r", details={"why": "no"}))

    (event,) = folding.summaries(everything=True)

    assert event == AuditEvent(
        type=AuditType.CALL_REFUSED,
        outcome=REFUSED,
        target="method",
        peer="192.0.2.1",
        reason="R",
        details={"folded": "2", "seconds": "10"},
    )


def test_successful_calls_have_a_burst_of_their_own(folding: Folding) -> None:
    assert admitted(folding, an_event(type=AuditType.TOKEN_ISSUED, outcome=DONE, reason=""), 10) == 5


def test_addresses_beyond_the_bound_are_counted_together_by_type(folding: Folding, clock: FakeClock) -> None:
    for host in range(3):
        assert folding.admit(an_event(f"192.0.2.{host}:1"))

    written = [folding.admit(an_event(f"198.51.100.{host}:1", reason=f"R{host}")) for host in range(100)]

    assert written.count(True) == 2
    end_window(clock)
    (event,) = folding.summaries()
    assert (event.peer, event.reason) == ("", "")
    assert event.details == {"folded": "98", "seconds": "10", "peers": "others"}


def test_an_address_that_is_known_keeps_its_own_window_when_others_exceed_the_bound(folding: Folding) -> None:
    for host in range(100):
        folding.admit(an_event(f"192.0.2.{host}:1"))

    assert folding.admit(an_event("192.0.2.0:1"))  # the second of two


def test_refused_calls_take_no_place_from_successful_ones(folding: Folding) -> None:
    for host in range(100):
        folding.admit(an_event(f"198.51.100.{host}:1"))

    issued = an_event("192.0.2.1:1", type=AuditType.TOKEN_ISSUED, outcome=DONE, reason="")
    admitted(folding, issued, 6)

    assert ("192.0.2.1", "1") in summaries(folding, everything=True)


def test_windows_that_have_ended_give_their_place_to_others(folding: Folding, clock: FakeClock) -> None:
    for host in range(3):
        folding.admit(an_event(f"192.0.2.{host}:1"))
    end_window(clock)

    for host in range(3):
        admitted(folding, an_event(f"198.51.100.{host}:1"), 3)

    assert [peer for peer, _ in summaries(folding, everything=True)] == [
        f"198.51.100.{host}" for host in range(3)
    ]


def test_memory_is_bounded_for_any_events(folding: Folding) -> None:
    """The number of peers is limited; all further peers share one count for each type."""
    for host in range(1000):
        for type_ in (AuditType.CALL_REFUSED, AuditType.ISSUE_REFUSED):
            folding.admit(an_event(f"10.0.{host // 250}.{host % 250}:1", type=type_))

    assert len(folding.summaries(everything=True)) <= 3 + 2
    assert not folding._refused._open


@pytest.mark.parametrize(
    ("second", "common"),
    [
        ({"actor": "".join(("o", "ps")), "target": "".join(("sh", "op"))}, ("ops", "shop")),
        ({"actor": "another", "target": "shop"}, ("", "shop")),
        ({"actor": "ops", "target": "another"}, ("ops", "")),
    ],
)
def test_a_summary_names_the_actor_and_the_target_that_all_of_its_events_have(
    folding: Folding, second: dict[str, str], common: tuple[str, str]
) -> None:
    first = {"actor": "ops", "target": "shop"}
    admitted(folding, an_event(**first), 3)
    folding.admit(an_event(**second))

    (summary,) = folding.summaries(everything=True)

    assert (summary.actor, summary.target) == common
    assert (summary.peer, summary.reason, summary.details["folded"]) == ("192.0.2.1", "R", "2")
