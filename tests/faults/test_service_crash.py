"""Tests in which a service process is killed under load and restarted."""

import random
from pathlib import Path

import pytest

from tests.faults.conftest import FULL, Start
from tests.faults.site import Site

ROUNDS = FULL or 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 15 * ROUNDS)]


def crash(site: Site, rounds: int) -> None:
    """Kill the processes in turn at random moments under load, and restart each at once."""
    moments = random.Random(rounds)  # noqa: S311  # the moments are not secret
    with site.load() as load:
        for number in range(rounds):
            load.run(moments.uniform(0.2, 0.6))
            victim = number % len(site.services)
            site.services[victim].kill()
            site.services[victim] = site.start(victim)
            site.recover()


def test_nothing_is_lost_when_a_process_on_redis_is_killed(start: Start) -> None:
    single = start()
    crash(single.site, ROUNDS)
    single.conclude("kill -9 of a service process on Redis", ROUNDS).require_unbroken()


def test_nothing_is_lost_when_a_process_on_sqlite_is_killed(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/identity.db"
    site = Site(tmp_path, store, [store, store])
    with site.running():
        crash(site, ROUNDS)
        report = site.conclude("kill -9 of a service process on SQLite", ROUNDS, tmp_path)
    report.require_unbroken()
