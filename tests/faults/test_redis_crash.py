"""Tests in which Redis is killed under load, and restarts with all its data or without the last writes."""

import pytest

from tests.faults.conftest import FULL, Start

ROUNDS = FULL or 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 10 * ROUNDS)]


def test_nothing_is_lost_when_redis_is_killed_that_syncs_every_write(start: Start) -> None:
    single = start()
    with single.site.load() as load:
        for _ in range(ROUNDS):
            load.run(0.6)
            single.redis.kill()
            load.run(0.3)
            single.redis.start()
            single.site.recover()
    report = single.conclude("kill -9 of Redis, appendfsync always", ROUNDS)
    report.require_unbroken()


def test_facts_that_redis_had_not_synced_are_repaired_by_the_processes_that_know_them(start: Start) -> None:
    """The test truncates the append-only file to its synced size, as a loss of power would."""
    single = start(durability="unsynced", appendfsync="everysec")
    cut = 0
    with single.site.load() as load:
        for _ in range(ROUNDS):
            load.run(0.6)
            synced = single.redis.append_only_size()
            load.run(0.3)
            single.redis.kill()
            cut += single.redis.append_only_size() - synced
            single.redis.lose_tail(synced)
            single.redis.start()
            single.site.recover()
    report = single.conclude("kill -9 of Redis, everysec, unsynced tail lost", ROUNDS)
    assert cut > 0
    assert report.repaired > 0
    report.require_repaired()
