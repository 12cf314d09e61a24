"""The clocks of the tests themselves: moving one never makes a healthy service refuse a call."""

import threading
from collections.abc import Callable

import pytest

from tests.rpc.clocks import ShiftedClock
from tests.rpc.world import World


def test_a_service_notices_a_moved_clock_before_the_next_call(world: World) -> None:
    """A move waits for a heartbeat of the service. Without that wait, about one in ten calls failed."""
    token = world.issue(world.new_client()).access_token
    for _ in range(10):
        world.clock.advance(hours=-1)
        assert world.reason(token) == "NOT_YET_VALID"
        world.clock.advance(hours=1)
        assert world.reason(token) == ""


@pytest.mark.in_process
def test_a_heartbeat_that_is_under_way_does_not_count(world: World) -> None:
    """A heartbeat in progress may have read one clock before the move and the other one after it.

    The move therefore waits for a heartbeat that begins afterwards.
    """
    token = world.issue(world.new_client()).access_token
    held, go_on = threading.Event(), threading.Event()
    heartbeat: Callable[..., object] = world.store.log.heartbeat

    def slow(*words: object, **named: object) -> object:
        held.set()
        assert go_on.wait(60)
        return heartbeat(*words, **named)

    world.store.log.heartbeat = slow  # type: ignore[method-assign,assignment]
    assert held.wait(60)
    moving = threading.Thread(target=lambda: world.clock.advance(hours=1))
    moving.start()
    try:
        assert not _ends_while_held(moving, world.clock)
    finally:
        go_on.set()
    moving.join()

    assert world.reason(token) == "EXPIRED"


def _ends_while_held(moving: threading.Thread, clock: ShiftedClock) -> bool:
    """Return whether the move ends while the heartbeat is still held, within about half a second."""
    for _ in range(1000):
        moving.join(0.0005)
        if not moving.is_alive():
            return True
    return False
