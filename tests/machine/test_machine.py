"""No acknowledged revocation is ever accepted again, whatever is done to clocks, processes and the store.

`faults.py` has the faults. One that never took effect has shown nothing, and fails the run.
"""

import os
import sys
from collections import Counter
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from identity_service.storage.redis import circuit, node
from tests.machine.clients import OpenTarget
from tests.machine.facts import Kind
from tests.machine.faults import CLOCKS, Machine
from tests.machine.redis_target import WRONG, RedisTarget
from tests.machine.sqlite_target import SqliteTarget
from tests.redis_server import RedisServer

ROUNDS: Final = int(os.environ.get("CRASH_ROUNDS", "0"))
EXAMPLES: Final = ROUNDS or 25
STEPS: Final = 28
TO_BE_SEEN: Final = {
    *(f"revoke by {kind}" for kind in Kind),
    *(f"clock: {name}" for name in CLOCKS if name != "store"),
    "pause",
    "stop",
    "trim",
    "older copy put back while stopped",
    "entries deleted",
    *(f"deleted: {kind}" for kind in ("what denies", "head or log", "generations", "record", "other")),
    *(
        f"{name} {way}"
        for name in ("max_access_token_lifetime", "session_lifetime", "leeway")
        for way in ("lowered", "raised")
    ),
    "watcher resumed",
    "watcher told everything",
    "healed",
    "verified",
}
ON_REDIS: Final = {
    "clock: store",
    "older copy put back",
    "crash of everything",
    *(f"set up wrongly: {name}" for name in WRONG),
}
ON_SQLITE: Final = {f"files removed: {names}" for names in ("-wal -shm", "-wal", "-shm")}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 60 * EXAMPLES)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write looks at the set-up of Redis, and each heartbeat tries a server that was away."""
    monkeypatch.setattr(node, "_LOOK_INTERVAL", 0.0)
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE", "_LONGEST_REFUSAL"):
        monkeypatch.setattr(circuit, name, 0.0)


def run(open_target: OpenTarget, to_be_seen: set[str]) -> None:
    """Run the machine. Fails if a fault never took effect, and says how often each did."""
    took: Counter[str] = Counter()
    machine = type("OnStore", (Machine,), {"open_target": staticmethod(open_target), "took": took})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                derandomize=not ROUNDS,
                phases=(Phase.generate,),  # to shrink takes hours; the steps are told as they were taken
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        sys.stdout.write(f"\n{table(took)}\n")
    assert to_be_seen <= took.keys(), f"never: {sorted(to_be_seen - took.keys())}\n{table(took)}"


def table(took: Counter[str]) -> str:
    """How often each fault took effect."""
    return "\n".join(f"{count:7,} {name}" for name, count in sorted(took.items()))


def test_whatever_happens_nothing_revoked_is_accepted_again_on_sqlite(tmp_path: Path) -> None:
    run(lambda clock: SqliteTarget(Path(mkdtemp(dir=tmp_path))), TO_BE_SEEN | ON_SQLITE)


def test_whatever_happens_nothing_revoked_is_accepted_again_on_redis(redis_server: RedisServer) -> None:
    run(lambda clock: RedisTarget(redis_server, clock), TO_BE_SEEN | ON_REDIS)
