"""Runs a state machine of Hypothesis until everything that it is to reach was reached."""

from collections.abc import Callable
from typing import Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

_RUNS: Final = 5


def run_until(
    is_complete: Callable[[], bool],
    machine: type[RuleBasedStateMachine],
    *,
    examples: int,
    steps: int,
    phases: tuple[Phase, ...] = tuple(Phase),
    by_chance: bool = False,
) -> None:
    """Run so many examples, and as often again until `is_complete`, at most five times in all.

    Unless they are drawn `by_chance`, they are the same whenever the test runs among the same modules:
    Hypothesis prefers the constants of all modules that are loaded, so a test that runs alone draws others.
    """
    wanted = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    for number in range(_RUNS):
        run_state_machine_as_test(machine if by_chance else seed(number)(machine), settings=wanted)
        if is_complete():
            return
