"""Tests under load in which the network to Redis delays, drops, truncates or withholds messages."""

import pytest

from tests.faults.conftest import FULL, Start
from tests.faults.proxy import CLEAR, Impairment
from tests.patience import until

ROUNDS = FULL // 5 or 2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 15 * ROUNDS)]


IMPAIRMENTS = {
    "delays of up to 0.1 s": Impairment(delay=0.1),
    "connections dropped": Impairment(drop=0.02),
    "messages truncated": Impairment(truncate=0.02),
    "black hole": Impairment(silent=True),
    "connections refused": Impairment(refused=True),
}


@pytest.mark.parametrize("name", IMPAIRMENTS)
def test_nothing_is_lost_on_an_impaired_network(start: Start, name: str) -> None:
    impairment = IMPAIRMENTS[name]
    single = start()
    with single.site.load() as load:
        for _ in range(ROUNDS):
            load.run(0.3)
            for proxy in single.proxies:
                proxy.set(impairment)
            load.run(2.0)
            for proxy in single.proxies:
                proxy.set(CLEAR)
            single.site.recover()
    report = single.conclude(f"proxy: {name}", ROUNDS)
    report.require_unbroken()
    if impairment.drop or impairment.truncate:
        assert sum(proxy.accidents for proxy in single.proxies) > 0


def test_a_process_that_is_cut_off_falls_silent_while_the_other_goes_on(start: Start) -> None:
    """A process that cannot reach the store cannot learn of revocations, so it must stop answering Verify."""
    single = start()
    with single.site.load() as load:
        for number in range(2 * ROUNDS):
            cut_off = single.proxies[number % 2]
            load.run(0.3)
            cut_off.set(Impairment(silent=True))
            load.run(2.5)
            until(lambda cut_off=number % 2: not single.site.serving(cut_off))  # type: ignore[misc]
            until(lambda other=1 - number % 2: single.site.serving(other))  # type: ignore[misc]
            cut_off.set(CLEAR)
            single.site.recover()
    report = single.conclude("each process cut off in turn", 2 * ROUNDS)
    report.require_unbroken()
    assert report.counts["verify: REPLICA_STALE"] > 0
