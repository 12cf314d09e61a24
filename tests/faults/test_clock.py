"""Tests under load: the wall clock of a process, of Redis, or of the whole machine is wrong by an hour."""

from pathlib import Path

import pytest

from tests.faults.clocks import SteppedClock
from tests.faults.conftest import FULL, Start
from tests.patience import until
from tests.redis_server import packaged_server

ROUNDS = FULL // 20 or 1
HOUR = 3600.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 30 * ROUNDS)]


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_process_whose_clock_is_set_is_unavailable_until_it_is_right_again(
    start: Start, tmp_path: Path, step: float
) -> None:
    clock = SteppedClock(tmp_path / "clock")
    single = start(environments={0: clock.environment})
    with single.site.load() as load:
        for _ in range(ROUNDS):
            load.run(0.5)
            clock.step(step)
            load.run(1.5)
            until(lambda: not single.site.serving(0))
            until(lambda: single.site.serving(1))
            until(lambda: single.site.history.counts["verify: CLOCK_SKEWED"] > 0)
            clock.step(0)
            single.site.recover()
    report = single.conclude(f"clock of one process set by {step:+.0f} s", ROUNDS)
    report.require_unbroken()


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
def test_all_processes_fall_silent_while_the_clock_of_redis_is_wrong(
    start: Start, tmp_path: Path, step: float
) -> None:
    clock = SteppedClock(tmp_path / "clock")
    single = start(environment=clock.environment, program=packaged_server())
    with single.site.load() as load:
        for _ in range(ROUNDS):
            load.run(0.5)
            clock.step(step)
            load.run(1.5)
            until(lambda: not (single.site.serving(0) or single.site.serving(1)))
            clock.step(0)
            single.site.recover()
    report = single.conclude(f"clock of Redis set by {step:+.0f} s", ROUNDS)
    report.require_unbroken()


@pytest.mark.parametrize(("before", "after"), [(0, HOUR), (HOUR, 0)], ids=["forward", "back"])
def test_revoked_tokens_stay_revoked_when_the_clock_of_the_whole_machine_is_set(
    start: Start, tmp_path: Path, before: float, after: float
) -> None:
    """All processes share the wrong clock, so none can detect the step: the service must continue to work.

    If the clock is set back, it is an hour ahead at the start: the signing key is made by that clock and
    would not be active before its time.
    """
    clock = SteppedClock(tmp_path / "clock")
    clock.step(before)
    environment = clock.environment
    single = start(
        environment=environment,
        environments=dict.fromkeys(range(3), environment),
        program=packaged_server(),
    )
    with single.site.load() as load:
        for _ in range(ROUNDS):
            for seconds in (after, before):
                load.run(0.5)
                clock.step(seconds)
                load.run(1.0)
                single.site.recover()
    report = single.conclude(f"clock of the whole machine set by {after - before:+.0f} s", 2 * ROUNDS)
    assert list(report.first_exposures) == []
    report.require_repaired()
