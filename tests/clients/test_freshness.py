"""The time until which a local verifier may use its state, with clocks that the test moves."""

from datetime import UTC, datetime, timedelta

import pytest

from identity_client.freshness import ClockSetBackError, ClockSkewedError, Freshness, LateError

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class Clocks:
    """The monotonic clock and the wall clock of the client, and the wall clock of the service."""

    def __init__(self) -> None:
        self.steady, self.wall, self.service = 1000.0, START, START

    def pass_by(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds
        self.service += seconds

    def sent(self, ago: float = 0.0) -> datetime:
        return datetime.fromtimestamp(self.service - ago, UTC)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def fresh(clocks: Clocks) -> Freshness:
    return a_freshness(clocks)


def a_freshness(clocks: Clocks, leeway: float = 10) -> Freshness:
    """Return the freshness of a client that is about to receive a snapshot."""
    fresh = Freshness(
        max_staleness=timedelta(seconds=5),
        leeway=timedelta(seconds=leeway),
        steady=lambda: clocks.steady,
        wall=lambda: clocks.wall,
    )
    fresh.start_over()
    return fresh


def left(fresh: Freshness, clocks: Clocks) -> float:
    return round(fresh.until - clocks.steady, 3)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_nothing_is_fresh_before_the_first_heartbeat(fresh: Freshness, clocks: Clocks) -> None:
    assert fresh.until < clocks.steady


def test_the_staleness_of_the_service_counts_as_well(fresh: Freshness, clocks: Clocks) -> None:
    fresh.confirm(clocks.sent(), seconds(0))
    assert left(fresh, clocks) == 5
    fresh.confirm(clocks.sent(), seconds(3))
    assert left(fresh, clocks) == 2
    fresh.confirm(clocks.sent(), seconds(10**6))
    assert left(fresh, clocks) < 0


def test_the_clock_on_the_wall_moves_nothing(fresh: Freshness, clocks: Clocks) -> None:
    fresh.confirm(clocks.sent(), seconds(0))
    clocks.wall -= 3600
    clocks.steady += 4
    assert left(fresh, clocks) == 1


def test_a_heartbeat_counts_from_when_it_was_sent(fresh: Freshness, clocks: Clocks) -> None:
    """The client estimates when it was sent from the fastest heartbeat of the same stream."""
    fresh.confirm(clocks.sent(ago=0.2), seconds(0))
    clocks.pass_by(10)
    fresh.confirm(clocks.sent(ago=2.2), seconds(0))

    assert left(fresh, clocks) == 3


def test_a_backlog_confirms_nothing(fresh: Freshness, clocks: Clocks) -> None:
    """A client that was suspended reads the events of that time afterwards, the oldest first."""
    fresh.confirm(clocks.sent(), seconds(0))
    clocks.pass_by(60)

    with pytest.raises(LateError, match="59 s late"):
        fresh.confirm(clocks.sent(ago=59), seconds(0))
    assert left(fresh, clocks) == -55
    fresh.begin()
    fresh.confirm(clocks.sent(), seconds(0))
    assert left(fresh, clocks) == 5


@pytest.mark.parametrize("skew", [-11, 11, 3600, -3600])
def test_if_the_clocks_differ_nothing_is_fresh(fresh: Freshness, clocks: Clocks, skew: float) -> None:
    fresh.confirm(clocks.sent(), seconds(0))
    clocks.wall += skew
    with pytest.raises(ClockSkewedError, match=f"by {skew} s"):
        fresh.confirm(clocks.sent(), seconds(0))
    assert left(fresh, clocks) < 0
    clocks.wall -= skew - (9 if skew > 0 else -9)
    fresh.start_over()
    fresh.confirm(clocks.sent(), seconds(0))
    assert left(fresh, clocks) == 5


def test_without_leeway_the_way_of_a_message_is_no_difference_of_clocks(clocks: Clocks) -> None:
    fresh = a_freshness(clocks, leeway=0)
    fresh.confirm(clocks.sent(ago=0.5), seconds(0))
    assert left(fresh, clocks) == 5


@pytest.mark.parametrize(("wall", "service"), [(0, 0), (10, 0), (0, 10)])
def test_a_denial_outlives_its_token_wherever_the_clocks_go(
    clocks: Clocks, wall: float, service: float
) -> None:
    """A denial may be forgotten only if its token has expired by every time that the client may assume."""
    leeway = 10.0
    clocks.wall += wall
    clocks.service += service
    fresh = a_freshness(clocks, leeway)
    fresh.confirm(clocks.sent(), seconds(0))
    deny_until = fresh.forgettable()  # by a service that has no leeway, when the token expires

    slowest_later = clocks.wall - leeway
    assert slowest_later >= deny_until + leeway


def test_a_step_is_not_trusted_before_the_next_heartbeat(fresh: Freshness, clocks: Clocks) -> None:
    assert not fresh.is_steady()
    fresh.confirm(clocks.sent(), seconds(0))
    assert fresh.is_steady()
    for step in (2, -2, 3600):
        clocks.wall += step
        assert not fresh.is_steady()
        clocks.wall -= step
    clocks.wall += 2
    fresh.confirm(clocks.sent(), seconds(0))
    assert fresh.is_steady()


@pytest.mark.parametrize("hours", [1, 30])
def test_clocks_that_are_ahead_together_for_a_moment_make_nothing_forgotten(
    fresh: Freshness, clocks: Clocks, hours: float
) -> None:
    fresh.confirm(clocks.sent(), seconds(0))
    before = fresh.forgettable()
    for step in (hours * 3600, -hours * 3600):
        clocks.wall += step
        clocks.service += step
        fresh.begin()
        fresh.confirm(clocks.sent(), seconds(0))
        assert fresh.forgettable() == before


def test_clocks_that_were_set_back_together_need_a_new_snapshot(fresh: Freshness, clocks: Clocks) -> None:
    fresh.confirm(clocks.sent(), seconds(0))
    clocks.wall -= 3600
    clocks.service -= 3600
    for _ in range(2):
        fresh.begin()
        with pytest.raises(ClockSetBackError):
            fresh.confirm(clocks.sent(), seconds(0))
        assert left(fresh, clocks) < 0
    fresh.start_over()
    fresh.confirm(clocks.sent(), seconds(0))
    assert fresh.is_steady()
    assert left(fresh, clocks) == 5


def test_a_forward_step_that_stays_is_followed_after_a_while(fresh: Freshness, clocks: Clocks) -> None:
    """Otherwise the client would from then on keep each denial longer by the size of the step."""
    fresh.confirm(clocks.sent(), seconds(0))
    for clock in ("wall", "service"):
        setattr(clocks, clock, getattr(clocks, clock) + 10**9)
    for hours in (1, 31, 31):
        fresh.begin()
        fresh.confirm(clocks.sent(), seconds(0))
        assert fresh.forgettable() < clocks.wall - 10**8
        clocks.pass_by(hours * 3600)
    fresh.begin()
    fresh.confirm(clocks.sent(), seconds(0))
    assert fresh.forgettable() > clocks.wall - 60


def test_a_clock_that_is_corrected_during_a_snapshot_is_the_one_that_counts(clocks: Clocks) -> None:
    clocks.wall -= 10**9
    fresh = a_freshness(clocks)
    clocks.wall += 10**9
    fresh.confirm(clocks.sent(), seconds(0))
    assert fresh.forgettable() > clocks.wall - 60
