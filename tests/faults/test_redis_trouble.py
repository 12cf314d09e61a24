"""Tests in which Redis keeps running but does not work: it hangs, or it refuses writes."""

import pytest

from tests.faults.conftest import FULL, Start

ROUNDS = FULL // 5 or 2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 15 * ROUNDS)]


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_nothing_is_lost_while_redis_stands_still(start: Start, seconds: float) -> None:
    single = start()
    with single.site.load() as load:
        for _ in range(ROUNDS):
            load.run(0.5)
            single.redis.pause()
            load.run(seconds)
            single.redis.resume()
            single.site.recover()
    report = single.conclude(f"Redis stopped for {seconds} s", ROUNDS)
    report.require_unbroken()
    if seconds > single.site.history.bound:
        assert report.counts["verify: REPLICA_STALE"] > 0


def test_nothing_is_lost_while_redis_has_no_memory_for_writes(start: Start) -> None:
    """Redis without free memory still answers reads, so only a heartbeat that writes detects the fault."""
    single = start()
    with single.site.load() as load:
        for _ in range(ROUNDS):
            load.run(0.5)
            single.redis.configure("maxmemory", "1")
            load.run(2.0)
            single.redis.configure("maxmemory", "0")
            single.site.recover()
    report = single.conclude("maxmemory reached, noeviction", ROUNDS)
    report.require_unbroken()
    assert report.counts["verify: REPLICA_STALE"] > 0
