"""Runs a state machine of Hypothesis until everything that it is to reach was reached."""

from collections.abc import Callable
from typing import Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

_TIMES: Final = 5
_FURTHER: Final = 4
"""The examples of each further run, of which the first is always a trivial one."""


def run_until(
    is_complete: Callable[[], bool],
    machine: type[RuleBasedStateMachine],
    *,
    examples: int,
    steps: int,
    phases: tuple[Phase, ...] = tuple(Phase),
    by_chance: bool = False,
) -> None:
    """Run so many examples, and then a few at a time until `is_complete`, at most five times as many in all.

    Unless they are drawn `by_chance`, they are the same whenever the test runs among the same modules:
    Hypothesis prefers the constants of all modules that are loaded, so a test that runs alone draws others.
    """
    wanted = settings(
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    counts = [examples, *[_FURTHER] * ((_TIMES - 1) * examples // _FURTHER)]
    for number, count in enumerate(counts):
        run_state_machine_as_test(
            machine if by_chance else seed(number)(machine), settings=settings(wanted, max_examples=count)
        )
        if is_complete():
            return
