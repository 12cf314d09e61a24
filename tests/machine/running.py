"""Runs the state machine on one store, and fails if a fault never took effect: such a run proves nothing.

The property under test: no acknowledged revocation is ever accepted again, however clocks, processes and the
store are damaged. The faults are in `faults.py`. Each store has its own test module, so that pytest-xdist can
run them in parallel.
"""

import os
import sys
from collections import Counter
from typing import Final

import pytest
from hypothesis import Phase

from tests.machine.clients import OpenTarget
from tests.machine.facts import Kind
from tests.machine.faults import CLOCKS, Machine
from tests.state_machines import run_until

ROUNDS: Final = int(os.environ.get("CRASH_ROUNDS", "0"))
EXAMPLES: Final = ROUNDS or 18
STEPS: Final = 28
ON_EACH_STORE: Final = {
    *(f"revoke by {kind}" for kind in Kind),
    *(f"clock: {name}" for name in CLOCKS if name != "store"),
    "pause",
    "stop",
    "trim",
    "older copy restored while stopped",
    "entries deleted",
    *(f"deleted: {kind}" for kind in ("what denies", "head or log", "generations", "record", "other")),
    *(
        f"{name} {way}"
        for name in ("max_access_token_lifetime", "session_lifetime", "leeway")
        for way in ("lowered", "raised")
    ),
    "watcher resumed",
    "watcher got a snapshot",
    "healed",
    "verified",
}

MARKS: Final = [pytest.mark.slow, pytest.mark.timeout(600 + 60 * EXAMPLES)]
"""The pytest marks of a module that runs the state machine."""


def run(open_target: OpenTarget, to_be_seen: set[str]) -> None:
    """Run the machine, print how often each fault took effect, and fail if one never did."""
    took: Counter[str] = Counter()
    machine = type("OnStore", (Machine,), {"open_target": staticmethod(open_target), "took": took})
    try:
        run_until(
            lambda: to_be_seen <= took.keys(),
            machine,
            examples=EXAMPLES,
            steps=STEPS,
            phases=(Phase.generate,),  # to shrink takes hours; the steps are printed as they were taken
            by_chance=bool(ROUNDS),
        )
    finally:
        sys.stdout.write(f"\n{table(took)}\n")
    assert to_be_seen <= took.keys(), f"never: {sorted(to_be_seen - took.keys())}\n{table(took)}"


def table(took: Counter[str]) -> str:
    """Return a table that says how often each fault took effect."""
    return "\n".join(f"{count:7,} {name}" for name, count in sorted(took.items()))
