"""Runs a state machine of Hypothesis until it has reached everything that the test requires."""

from collections.abc import Callable
from typing import Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

_TIMES: Final = 5
_FURTHER: Final = 4
"""The number of examples in each additional run. It is not 1, since the first example is always trivial."""


def run_until(
    is_complete: Callable[[], bool],
    machine: type[RuleBasedStateMachine],
    *,
    examples: int,
    steps: int,
    phases: tuple[Phase, ...] = tuple(Phase),
    by_chance: bool = False,
) -> None:
    """Run `examples` examples, then four at a time until `is_complete()`; stop after five times `examples`.

    The examples are the same in each run of the same test modules, unless they are drawn `by_chance`.
    Hypothesis prefers constants of the modules that are loaded, so a test that runs alone gets other
    examples.
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
