"""The findings about the configuration of a Redis server, which is given as values."""

from dataclasses import replace
from datetime import timedelta

import pytest

from identity_service.storage.redis.client.server_checks import Demands, ServerSetup, judge

GOOD = ServerSetup(
    version="7.2.4",
    eviction="noeviction",
    append_only=True,
    fsync="always",
    skips_fsync=False,
    save="",
)


@pytest.mark.parametrize("durability", ["local", "unsynced"])
def test_a_good_set_up_has_no_findings(durability: str) -> None:
    assert judge(GOOD, Demands(durability=durability)) == []


@pytest.mark.parametrize("version", ["5.0.14", "6.0.20", "6.1.240"])
def test_a_version_without_the_commands_that_are_used_is_refused(version: str) -> None:
    (finding,) = judge(replace(GOOD, version=version), Demands(durability="local"))

    assert finding.severity == "refuse"
    assert "6.2" in finding.fix


@pytest.mark.parametrize("version", ["6.2.0", "7.0.15", "10.1.0", "8.0-rc1", "255.255.255", "unstable"])
def test_a_new_or_unknown_version_is_accepted(version: str) -> None:
    assert judge(replace(GOOD, version=version), Demands(durability="local")) == []


@pytest.mark.parametrize(
    ("fsync", "version"), [("everysec", "7.0.15"), ("everysec", None), ("no", "7.0.15"), ("no", "7.2.4")]
)
def test_durability_on_disk_needs_a_sync_that_redis_can_confirm(fsync: str, version: str | None) -> None:
    (finding, *_) = judge(replace(GOOD, fsync=fsync, version=version), Demands(durability="local"))

    assert finding.severity == "refuse"
    assert "`CONFIG SET appendfsync always`" in finding.fix
    assert judge(replace(GOOD, fsync=fsync), Demands(durability="unsynced")) == []


def test_a_server_that_syncs_each_second_and_confirms_it_is_sufficient_and_slow() -> None:
    setup = replace(GOOD, fsync="everysec", version="7.2.4", waitaof=True)
    (finding,) = judge(setup, Demands(durability="local"))

    assert finding.severity == "warn"
    assert "WAITAOF" in finding.what


def test_a_replica_is_refused_for_any_durability() -> None:
    (finding,) = judge(replace(GOOD, role="slave"), Demands(durability="unsynced", allow_unsafe=True))

    assert finding.severity == "refuse"


def test_durability_on_replicas_needs_no_disk_and_warns_if_too_few_are_connected() -> None:
    lone = replace(GOOD, fsync="no", replicas=1)

    (finding,) = judge(lone, Demands(durability="replicas:2"))

    assert finding.severity == "warn"
    assert "2 connected replicas" in finding.what
    assert judge(replace(lone, replicas=2), Demands(durability="replicas:2")) == []


@pytest.mark.parametrize(
    ("count", "lag", "refused"), [(0, 10, True), (1, 10, True), (1, 0, True), (1, 5, False), (2, 1, False)]
)
def test_if_a_failover_is_possible_a_primary_without_replicas_must_refuse_writes_in_time(
    count: int, lag: int, refused: bool
) -> None:
    setup = replace(GOOD, min_replicas=count, min_replicas_lag=lag)
    demands = Demands(durability="local", max_staleness=timedelta(seconds=5), failover=True)

    findings = judge(setup, demands)

    assert [f.severity for f in findings] == (["refuse"] if refused else [])
    assert all("min-replicas-max-lag 5" in f.fix for f in findings)
    assert judge(setup, replace(demands, failover=False)) == []


def test_a_clock_that_differs_by_more_than_the_leeway_is_mentioned() -> None:
    demands = Demands(durability="local", leeway=timedelta(seconds=10))

    (finding,) = judge(replace(GOOD, skew=timedelta(seconds=11)), demands)

    assert finding.severity == "warn"
    assert judge(replace(GOOD, skew=timedelta(seconds=9)), demands) == []


def test_the_fix_names_every_setting_that_is_wrong_and_no_other() -> None:
    wrong = replace(GOOD, append_only=False, skips_fsync=True)

    (finding,) = judge(wrong, Demands(durability="local"))

    assert "appendonly yes" in finding.fix
    assert "no-appendfsync-on-rewrite no" in finding.fix
    assert "appendfsync always" not in finding.fix


def test_unsafe_allows_eviction_and_nothing_else() -> None:
    unsafe = replace(GOOD, eviction="allkeys-lru", fsync="no")

    findings = judge(unsafe, Demands(durability="local", allow_unsafe=True))

    assert [(f.severity, "evict" in f.what) for f in findings] == [("refuse", False), ("warn", True)]


def test_refusals_come_before_warnings() -> None:
    silent = ServerSetup(eviction="volatile-lru")

    findings = judge(silent, Demands(durability="local", config_unchecked=True))

    assert [f.severity for f in findings] == ["refuse", "warn", "warn"]


@pytest.mark.parametrize(("unchecked", "severity"), [(False, "refuse"), (True, "warn")])
def test_a_server_that_hides_its_configuration_is_refused_unless_the_operator_vouches_for_it(
    unchecked: bool, severity: str
) -> None:
    findings = judge(ServerSetup(), Demands(durability="local", config_unchecked=unchecked))

    assert [f.severity for f in findings] == [severity] * 2
    assert "CONFIG GET" in findings[0].what
    assert "INFO" in findings[1].what
    assert ["redis_config_unchecked" in f.fix for f in findings] == [not unchecked] * 2


def test_a_setting_that_cannot_be_checked_is_named() -> None:
    silent = replace(GOOD, fsync=None, skips_fsync=None)

    (on_disk,) = judge(silent, Demands(durability="local"))
    (sentinel,) = judge(silent, Demands(durability="replicas:1", failover=True))

    assert "so appendfsync, no-appendfsync-on-rewrite cannot" in on_disk.what
    assert "so min-replicas-to-write, min-replicas-max-lag cannot" in sentinel.what


@pytest.mark.parametrize("unchecked", [True, False])
def test_if_config_is_refused_the_answers_of_info_count(unchecked: bool) -> None:
    silent = ServerSetup(
        version="7.2.4", role="slave", eviction="allkeys-lru", append_only=False, waitaof=True
    )

    findings = judge(silent, Demands(durability="local", config_unchecked=unchecked))

    refused = " ".join(f"{f.what} {f.fix}" for f in findings if f.severity == "refuse")
    assert all(name in refused for name in ("replica", "allkeys-lru", "appendonly yes"))


def test_a_confirmation_that_may_not_be_asked_for_is_refused_for_the_disk_alone() -> None:
    forbidden = replace(GOOD, waitaof=None)

    (finding,) = judge(forbidden, Demands(durability="local"))

    assert finding.severity == "refuse"
    assert "+waitaof" in finding.fix
    assert judge(forbidden, Demands(durability="unsynced")) == []


def test_a_file_that_cannot_be_written_is_refused_for_the_disk_alone() -> None:
    failing = replace(GOOD, waitaof=True, writes_fail=True)

    (finding,) = judge(failing, Demands(durability="local"))

    assert finding.severity == "refuse"
    assert "aof_last_write_status" in finding.what
    assert judge(failing, Demands(durability="unsynced")) == []
