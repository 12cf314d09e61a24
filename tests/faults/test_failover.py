"""Tests under load in which a Redis replica is elected primary, with or without the last writes."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.clocks import SteppedClock
from tests.faults.conftest import FULL
from tests.faults.report import Report
from tests.faults.site import Site
from tests.redis_server import CHOSEN, packaged_server
from tests.redis_topology import ClusterGroup, SentinelGroup, paused, running, say, until

ROUNDS = range(FULL // 20 or 1)
MAX_STALENESS = 2.0
"""The setting `max_staleness` in seconds; it must not be below `min-replicas-max-lag` of the servers."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[SentinelGroup]:
    with running(SentinelGroup(tmp_path / "redis")) as group:
        yield group


@pytest.fixture
def slow_replicas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SentinelGroup]:
    """Yield a Sentinel group in which the clock of each replica is 5 s behind that of the first primary."""
    clock = SteppedClock(tmp_path / "clock")
    clock.step(-5)
    with ExitStack() as stack:
        with monkeypatch.context() as patch:
            # All servers run one program: an older version may not read data of a newer one.
            patch.setenv(CHOSEN, packaged_server())
            group = SentinelGroup(tmp_path / "redis")
            for name, value in clock.environment.items():
                patch.setenv(name, value)
            stack.enter_context(running(group))
        yield group


def stop_replicas(group: SentinelGroup) -> bool:
    """Pause all replicas, so that the primary has writes that no replica has; return True.

    The replicas run for a moment first, because the primary refuses writes once it has had no acknowledgement
    from a replica for `min-replicas-max-lag` seconds.
    """
    for replica in group.replicas:
        replica.resume()
    until(lambda: "min_slaves_good_slaves:0" not in say(group.primary.port, "INFO replication"))
    for replica in group.replicas:
        replica.pause()
    return True


def fail_over(
    group: SentinelGroup, folder: Path, durability: str, fault: str, *, loses: bool, slow: bool = False
) -> Report:
    """Pause the primary until another one is elected, then resume it: the classic split brain.

    The resumed primary still has open connections, and acts as a primary until Sentinel reconfigures it,
    about 10 s later; the test without lost writes waits for that. If `loses` is true, the replicas lack the
    last writes that the old primary acknowledged: they are paused under load, and restarted without the data
    that they had received but not read.
    """
    site = Site(folder, group.url, [group.url] * 2, max_staleness=MAX_STALENESS, durability=durability)
    with site.running():
        with site.load() as load:
            load.run(1.0)
            old = group.elected
            if loses:
                if durability == "local":
                    # Each caller may have had one revocation on its way when the replicas were paused.
                    until(lambda: stop_replicas(group) and load.revokes(len(site.callers) + 1, within=1.5))
                else:
                    stop_replicas(group)
                    load.run(1.0)
            with paused(group.primary):
                if loses:
                    for replica in group.replicas:
                        replica.kill()
                        replica.start()
                until(lambda: group.elected != old)
            site.recover()
            load.run(1.0)
            if not loses and not slow:
                until(lambda: "role:slave" in say(old, "INFO replication"))
                load.run(0.5)
        return site.conclude(f"{fault} at {durability}", 1, folder)


@pytest.mark.parametrize("_", ROUNDS)
def test_nothing_that_replicas_had_is_lost_when_a_silent_primary_comes_back(
    group: SentinelGroup, tmp_path: Path, _: int
) -> None:
    report = fail_over(group, tmp_path, "local", "Sentinel failover, primary back", loses=False)
    report.require_repaired()


@pytest.mark.parametrize("durability", ["local", "replicas:1"])
@pytest.mark.parametrize("_", ROUNDS)
def test_facts_that_only_the_old_primary_had_are_repaired_after_the_failover(
    group: SentinelGroup, tmp_path: Path, durability: str, _: int
) -> None:
    """At durability `local` the new primary lacks acknowledged revocations until the processes repair them.

    At `replicas:1` the old primary acknowledged no write that the replicas lack, so no revocation may be
    ignored, not even for a moment.
    """
    report = fail_over(group, tmp_path, durability, "Sentinel failover, replicas behind", loses=True)
    report.require_repaired()
    if durability == "local":
        assert report.repaired > 0
    else:
        assert list(report.first_exposures) == []


@pytest.mark.parametrize("_", ROUNDS)
def test_a_new_primary_whose_clock_is_slow_loses_nothing(
    slow_replicas: SentinelGroup, tmp_path: Path, _: int
) -> None:
    """Redis makes the ids of log entries from its clock by default.

    With a slow clock, new entries would have ids below those of older entries.
    """
    report = fail_over(
        slow_replicas, tmp_path, "local", "Sentinel failover to a slow clock", loses=False, slow=True
    )
    report.require_repaired()


@pytest.mark.parametrize("_", ROUNDS)
def test_the_log_survives_the_failover_of_the_cluster_node_that_holds_it(tmp_path: Path, _: int) -> None:
    with running(ClusterGroup(tmp_path / "redis", replica=True)) as group:
        for server in (group.home, group.replica):
            server.configure("min-replicas-to-write", "1")
            server.configure("min-replicas-max-lag", "2")
        site = Site(tmp_path, group.url, [group.url] * 2, max_staleness=MAX_STALENESS)
        with site.running():
            with site.load() as load:
                load.run(1.0)
                group.home.kill()
                until(lambda: "role:master" in say(group.replica.port, "INFO replication"))
                group.home.start()
                site.recover()
                load.run(1.0)
            report = site.conclude("Cluster failover of the node with the log at local", 1, tmp_path)
    report.require_repaired()
