"""What is said about the set-up of a Redis server, without one."""

from dataclasses import replace

import pytest

from identity_service.storage.redis.checks import ServerSetup, judge

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
    assert judge(GOOD, durability, allow_unsafe=False) == []


@pytest.mark.parametrize("version", ["5.0.14", "6.0.20", "6.1.240"])
def test_a_version_without_the_commands_that_are_used_is_refused(version: str) -> None:
    (finding,) = judge(replace(GOOD, version=version), "local", allow_unsafe=False)

    assert finding.severity == "refuse"
    assert "6.2" in finding.fix


@pytest.mark.parametrize("version", ["6.2.0", "7.0.15", "10.1.0", "8.0-rc1", "255.255.255", "unstable"])
def test_a_version_that_is_new_or_cannot_be_told_is_accepted(version: str) -> None:
    assert judge(replace(GOOD, version=version), "local", allow_unsafe=False) == []


@pytest.mark.parametrize("fsync", ["everysec", "no"])
def test_durability_on_disk_needs_a_sync_at_every_write(fsync: str) -> None:
    (finding,) = judge(replace(GOOD, fsync=fsync), "local", allow_unsafe=False)

    assert finding.severity == "refuse"
    assert "`CONFIG SET appendfsync always`" in finding.fix
    assert judge(replace(GOOD, fsync=fsync), "unsynced", allow_unsafe=False) == []


def test_the_fix_names_every_setting_that_is_wrong_and_no_other() -> None:
    wrong = replace(GOOD, append_only=False, skips_fsync=True)

    (finding,) = judge(wrong, "local", allow_unsafe=False)

    assert "appendonly yes" in finding.fix
    assert "no-appendfsync-on-rewrite no" in finding.fix
    assert "appendfsync always" not in finding.fix


def test_unsafe_allows_eviction_and_nothing_else() -> None:
    unsafe = replace(GOOD, eviction="allkeys-lru", fsync="no")

    findings = judge(unsafe, "local", allow_unsafe=True)

    assert [(f.severity, "evict" in f.what) for f in findings] == [("refuse", False), ("warn", True)]


def test_what_must_be_refused_comes_before_warnings() -> None:
    silent = ServerSetup(eviction="volatile-lru")

    findings = judge(silent, "local", allow_unsafe=False)

    assert [f.severity for f in findings] == ["refuse", "warn", "warn"]


def test_a_server_that_tells_nothing_is_mentioned_and_not_refused() -> None:
    findings = judge(ServerSetup(), "local", allow_unsafe=False)

    assert [f.severity for f in findings] == ["warn", "warn"]
    assert "CONFIG GET" in findings[0].what
    assert "INFO" in findings[1].what
