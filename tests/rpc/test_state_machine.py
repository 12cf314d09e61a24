"""The service agrees with its model for any order of calls, revocations, restarts and outages.

`machine.py` has the steps, and `sides.py` compares the answers. The test fails if its runs did not reach
every outcome of Refresh and Verify, since they would prove nothing about the missing ones.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from identity_service.domain.store import Store
from identity_service.storage.redis import RedisStore
from identity_service.storage.sqlite import SqliteStore
from tests.redis_server import RedisServer
from tests.rpc.machine import Machine
from tests.rpc.model import Event
from tests.rpc.sides import STALE, OpenStore
from tests.rpc.world import ShiftedClock
from tests.state_machines import run_until
from tests.unsynced import unsynced

EXAMPLES: Final = max(20, int(os.environ.get("CRASH_ROUNDS", "0")))
STEPS: Final = 50
TO_BE_SEEN: Final = {*Event, "", "REVOKED", "EXPIRED", STALE}
"""The outcomes that the runs must reach: all events of Refresh, and results of Verify, in which "" means that
the token is valid."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 10 * EXAMPLES)]


def run(open_store: OpenStore) -> Counter[str]:
    """Run the state machine; return the number of times that each outcome was seen."""
    seen: Counter[str] = Counter()
    machine = type("OnStore", (Machine,), {"open_store": staticmethod(open_store), "seen": seen})
    run_until(lambda: seen.keys() >= TO_BE_SEEN, machine, examples=EXAMPLES, steps=STEPS)
    return seen


def test_the_service_agrees_with_the_model_on_sqlite() -> None:
    def open_store(clock: ShiftedClock, folder: Path) -> Store:
        with unsynced():
            return SqliteStore.open(str(folder / "identity.db"), clock=clock)

    seen = run(open_store)

    assert TO_BE_SEEN - seen.keys() == set()


def test_the_service_agrees_with_the_model_on_redis(redis_server: RedisServer) -> None:
    fresh: set[Path] = set()

    def open_store(clock: ShiftedClock, folder: Path) -> Store:
        if folder not in fresh:
            fresh.add(folder)
            redis_server.flush()
        return RedisStore.connect(redis_server.url, clock=clock)

    assert TO_BE_SEEN - run(open_store).keys() == set()
