"""Tests of migrating a store while a service runs on it: no acknowledged write is lost.

If the migration is killed at any point, there is exactly one store on which a service may run, and that store
has all the data.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from identity_client import TokenSet
from tests.e2e.process import Installation
from tests.faults.conftest import FULL
from tests.faults.copied_site import (
    CopiedSite,
    Killer,
    copied_site,
    deny_many,
    is_unavailable,
    killed_after,
    refreshes,
    verdicts,
)
from tests.faults.revoking import Revoking
from tests.patience import PATIENCE, until
from tests.redis_server import ask

ROUNDS: Final = FULL // 10 or 2
"""Number of rounds in which the migration is killed with SIGKILL."""
DENIALS: Final = 10_000
"""Number of denials in the store: enough that writing them takes longer than starting Python, so that a kill
interrupts the writing."""
DIRECTIONS: Final = [("sqlite", "redis"), ("redis", "sqlite")]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 30 * ROUNDS)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[CopiedSite]:
    with copied_site(tmp_path) as site:
        yield site


@pytest.mark.parametrize(("kind", "to_kind"), DIRECTIONS)
def test_a_store_is_moved_under_load(site: CopiedSite, kind: str, to_kind: str) -> None:
    from_, to = site.new_store(kind), site.new_store(to_kind)
    installation = site.set_up(from_)
    with installation.serve() as service:
        kept = site.issue(service, 20) + site.sign_in(service, 40)
        last = site.issue(service, 1)
        with Revoking(site, service, site.sign_in(service, 60)) as revoking:
            until(lambda: len(revoking.acknowledged) >= 50)
            moved = installation.json("migrate", from_, to)
            until(lambda: revoking.has_ended)  # no write is acknowledged any more
        with service.client(max_attempts=1) as client:
            until(lambda: is_unavailable(client, last[0].access_token))
        assert moved["sessions"] >= 40

        with site.installation(to).serve() as after, after.client() as client:
            assert "VERIFIED" not in verdicts(client, revoking.acknowledged)
            assert "REFRESHED" not in refreshes(client, revoking.acknowledged)
            assert set(verdicts(client, kept)) == {"VERIFIED"}, "the control"
            assert set(refreshes(client, kept)) == {"REFRESHED"}
            new = site.issue(after, 3) + site.sign_in(after, 3)
            assert set(verdicts(client, new)) == {"VERIFIED"}
            with Revoking(site, after, kept) as again:
                until(lambda: again.has_taken_back)
            assert "VERIFIED" not in verdicts(client, kept)
            events = after.json("audit", "list", "--type", "store_migrated")
            assert [event["details"]["source"] for event in events] == [moved["from"]]
        with service.client(max_attempts=1) as client:
            assert is_unavailable(client, last[0].access_token), "the old one stays closed"
    assert {line["result"] for line in site.installation(to).json("doctor")} <= {"ok", "warn"}
    reopened = site.installation(from_).run("migrate", from_, to, "--undo")
    assert "has taken over" in reopened.stderr


def test_a_target_that_becomes_unreachable_keeps_the_source_fenced_until_it_is_back(
    site: CopiedSite,
) -> None:
    """No process can know if an unreachable target has all the data, so the source stays fenced."""
    from_, to = site.new_store("sqlite"), site.new_store("redis")
    redis = site.servers[to]
    installation = site.set_up(from_)
    deny_many(from_, 3 * DENIALS)
    with installation.serve() as service:
        kept = site.sign_in(service, 3)
        migration = installation.start_command("migrate", from_, to)
        until(lambda: b":1" in ask(redis.port, b"EXISTS {idn}:copy\r\n"))
        redis.kill()
        assert "accepts no writes" in migration.communicate(timeout=PATIENCE)[1]
        assert migration.returncode == 4
        with service.client(max_attempts=1) as client:
            until(lambda: is_unavailable(client, kept[0].access_token))
        assert installation.run("migrate", from_, to, "--undo").returncode == 4
        redis.start()
        again = installation.run("migrate", from_, to)
        assert again.returncode == 0, again.stderr
    with site.installation(to).serve() as service, service.client() as client:
        assert set(verdicts(client, kept)) == {"VERIFIED"}
        assert set(refreshes(client, kept)) == {"REFRESHED"}


def test_a_target_that_cannot_be_reached_stops_nothing(site: CopiedSite) -> None:
    from_ = site.new_store("sqlite")
    installation = site.set_up(from_)
    with installation.serve() as service:
        kept = site.sign_in(service, 3)
        refused = installation.run("migrate", from_, "redis://127.0.0.1:1/0")
        assert refused.returncode == 4
        with Revoking(site, service, site.issue(service, 5)) as revoking:
            until(lambda: revoking.has_taken_back)
        with service.client() as client:
            assert set(verdicts(client, kept)) == {"VERIFIED"}
            assert set(refreshes(client, kept)) == {"REFRESHED"}


@pytest.mark.parametrize(("kind", "to_kind"), DIRECTIONS)
def test_a_migration_that_is_killed_is_finished_by_the_next_run(
    site: CopiedSite, kind: str, to_kind: str
) -> None:
    from_ = site.new_store(kind)
    installation = site.set_up(from_)
    deny_many(from_, DENIALS)
    killer = Killer(seconds_of_a_migration(site, installation, from_, kind))
    held: list[TokenSet] = []
    revoked: list[TokenSet] = []
    while killer.goes_on(ROUNDS):
        to = site.new_store(to_kind)
        with site.installation(from_).serve() as service:
            held += site.sign_in(service, 5)
            with Revoking(site, service, site.issue(service, 5)) as revoking:
                killer.run(installation, "migrate", from_, to)
            revoked += revoking.acknowledged
        again = installation.run("migrate", from_, to)
        assert again.returncode == 0, again.stderr
        from_ = to
        kind, to_kind = to_kind, kind
    with site.installation(from_).serve() as service, service.client() as client:
        assert "VERIFIED" not in verdicts(client, revoked)
        assert "REFRESHED" not in refreshes(client, revoked)
        assert set(verdicts(client, held)) == {"VERIFIED"}
        assert set(refreshes(client, held)) == {"REFRESHED"}


@pytest.mark.parametrize(("kind", "to_kind"), DIRECTIONS)
def test_a_migration_that_is_killed_can_be_undone_unless_it_was_finished(
    site: CopiedSite, kind: str, to_kind: str
) -> None:
    from_, to = site.new_store(kind), site.new_store(to_kind)
    installation = site.set_up(from_)
    deny_many(from_, DENIALS)
    whole = seconds_of_a_migration(site, installation, from_, kind)
    with installation.serve() as service:
        kept = site.sign_in(service, 3)
        killed_after(installation, 0.7 * whole, "migrate", from_, to)
        undone = installation.run("migrate", from_, to, "--undo")
        if undone.returncode:
            assert "has taken over" in undone.stderr
            from_ = to
    with site.installation(from_).serve() as service, service.client() as client:
        assert set(verdicts(client, kept)) == {"VERIFIED"}
        assert set(refreshes(client, kept)) == {"REFRESHED"}
        with Revoking(site, service, kept) as revoking:
            until(lambda: revoking.has_taken_back)
        assert "VERIFIED" not in verdicts(client, kept)


def seconds_of_a_migration(site: CopiedSite, installation: Installation, from_: str, kind: str) -> float:
    """Return how many seconds `migrate` takes on this machine, including the start of Python."""
    installation.json("backup", f"timed-{kind}.backup", "--store", from_)
    copy = site.new_store(kind)
    installation.json("restore", f"timed-{kind}.backup", "--store", copy)
    begun = time.monotonic()
    installation.json("migrate", copy, site.new_store("redis"))
    return time.monotonic() - begun
