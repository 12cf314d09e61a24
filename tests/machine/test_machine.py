"""No acknowledged revocation is ever accepted again, whatever is done to clocks, processes and the store.

`machine.py` has the faults. A fault that never took effect has shown nothing, and fails the run.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from identity_service.storage.redis import circuit, node
from tests.machine.facts import Kind
from tests.machine.machine import CLOCKS, Machine, OpenTarget
from tests.machine.redis_target import RedisTarget
from tests.machine.sqlite_target import SqliteTarget
from tests.redis_server import RedisServer

ROUNDS: Final = int(os.environ.get("CRASH_ROUNDS", "0"))
EXAMPLES: Final = max(25, ROUNDS)
STEPS: Final = 40

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 30 * EXAMPLES)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write looks at the set-up of Redis, and each heartbeat tries a server that was away."""
    monkeypatch.setattr(node, "_LOOK_INTERVAL", 0.0)
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE", "_LONGEST_REFUSAL"):
        monkeypatch.setattr(circuit, name, 0.0)


def run(open_target: OpenTarget) -> Counter[str]:
    """How often each fault took effect."""
    took: Counter[str] = Counter()
    machine = type("OnStore", (Machine,), {"open_target": staticmethod(open_target), "took": took})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                derandomize=ROUNDS == 0,
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        print(table(took))
    return took


def table(took: Counter[str]) -> str:
    return "\n".join(f"{count:7} {name}" for name, count in sorted(took.items()))


def test_whatever_happens_nothing_revoked_is_accepted_again_on_sqlite(tmp_path: Path) -> None:
    took = run(lambda clock: SqliteTarget(Path(mkdtemp(dir=tmp_path))))


def test_whatever_happens_nothing_revoked_is_accepted_again_on_redis(redis_server: RedisServer) -> None:
    took = run(lambda clock: RedisTarget(redis_server, clock))
