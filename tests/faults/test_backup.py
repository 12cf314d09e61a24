"""Tests of restoring a store from a backup that was made under load: all older tokens are rejected.

Tokens that were revoked or issued before the restore must not be accepted after it, even if the restore was
killed at any point.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from identity_client import LocalVerifier, TokenSet
from identity_service.adapters.clock import SystemClock
from identity_service.composition.opening import open_store
from identity_service.domain.log import TokenDenied
from identity_service.settings import Settings
from identity_service.storage.upgrade import WATCHED
from tests.e2e.process import MASTER_KEY, Installation, Running
from tests.faults.conftest import FULL
from tests.faults.copied_site import (
    PASSWORD,
    CopiedSite,
    Killer,
    copied_site,
    deny_many,
    live_users,
    local_verdicts,
    refreshes,
    verdicts,
)
from tests.faults.revoking import Revoking
from tests.patience import PATIENCE, until

ROUNDS: Final = FULL // 10 or 2
"""Number of rounds in which the restore is killed with SIGKILL."""
DENIALS: Final = 10_000
"""Number of denials in the store: enough that writing them takes longer than starting Python, so that a kill
interrupts the writing."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 30 * ROUNDS)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[CopiedSite]:
    with copied_site(tmp_path) as site:
        yield site


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_restore_brings_back_nothing_that_was_revoked_or_issued_before(site: CopiedSite, kind: str) -> None:
    installation = site.set_up(site.new_store(kind))
    with (
        installation.serve() as service,
        LocalVerifier(service.target, issuer="identity-service") as verifier,
    ):
        port = int(service.target.rpartition(":")[2])
        before = site.issue(service, 20) + site.sign_in(service, 20)
        with Revoking(site, service, site.sign_in(service, 100)) as revoking:
            until(lambda: len(revoking.acknowledged) >= 50)
            made = installation.json("backup", "it.backup")
            at_backup = len(revoking.acknowledged)
            until(lambda: len(revoking.acknowledged) >= at_backup + 50)
            until(lambda: revoking.administered >= 3)
        revoked = revoking.acknowledged
        since = site.issue(service, 20) + site.sign_in(service, 20)
        with service.client() as client:
            assert set(verdicts(client, before + since)) == {"VERIFIED"}
            assert "VERIFIED" not in verdicts(client, revoked)
        assert service.terminate() == 0

        restored = installation.json("restore", "it.backup", "--replace", "--yes")
        assert restored["backup_time"] == made["time"].replace(" ", "T")

        with installation.serve(port=port) as service, service.client() as client:
            old = before + since + revoked
            assert "VERIFIED" not in verdicts(client, old)
            assert "REFRESHED" not in refreshes(client, old)
            new = site.issue(service, 5) + site.sign_in(service, 5)
            assert set(verdicts(client, new)) == {"VERIFIED"}, "the control"
            until(lambda: set(local_verdicts(verifier, new)) == {"VERIFIED"})
            assert "VERIFIED" not in local_verdicts(verifier, old)
            assert set(refreshes(client, new)) == {"REFRESHED"}
            events = service.json("audit", "list", "--type", "store_restored")
            assert [event["details"]["revision"] for event in events] == [made["revision"]]
            assert {line["result"] for line in installation.json("doctor")} == {"ok"}


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_restore_is_refused_beside_a_running_process(site: CopiedSite, kind: str) -> None:
    installation = site.set_up(site.new_store(kind))
    installation.json("backup", "it.backup")
    with installation.serve() as service:
        kept = site.sign_in(service, 1)
        refused = installation.run("restore", "it.backup", "--replace", "--yes")
        assert refused.returncode == 1
        assert "serves from this store" in refused.stderr
        with service.client() as client:
            assert verdicts(client, kept) == ["VERIFIED"]
            assert refreshes(client, kept) == ["REFRESHED"]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_restore_that_is_killed_leaves_no_store_that_accepts_revoked_tokens(
    site: CopiedSite, kind: str
) -> None:
    store = site.new_store(kind)
    installation = site.set_up(store)
    deny_many(store, DENIALS)
    with installation.serve() as service:
        tokens = site.issue(service, 10) + site.sign_in(service, 10)
        installation.json("backup", "it.backup")
        with Revoking(site, service, tokens) as revoking:
            until(lambda: revoking.has_taken_back)
        assert service.terminate() == 0
    begun = time.monotonic()
    installation.json("restore", "it.backup", "--store", site.new_store(kind))
    # A restore that replaces a store first waits for heartbeats of processes; this one did not.
    killer = Killer(time.monotonic() - begun, waits=WATCHED)
    while killer.goes_on(ROUNDS):
        killer.run(installation, "restore", "it.backup", "--replace", "--yes")
        assert accepted(installation, revoking.acknowledged) == []
    installation.json("restore", "it.backup", "--replace", "--yes")
    with installation.serve() as service, service.client() as client:
        assert "VERIFIED" not in verdicts(client, tokens)
        assert "REFRESHED" not in refreshes(client, tokens)
        assert set(verdicts(client, site.issue(service, 3))) == {"VERIFIED"}
        again = client.issue_with_password(live_users()[0], PASSWORD, audiences=["api"])
        assert refreshes(client, [again]) == ["REFRESHED"]
    assert restored_denials(store) >= DENIALS


def accepted(installation: Installation, revoked: list[TokenSet]) -> list[str]:
    """Return a line for each of these tokens that a service on the store accepts; [] if it does not start."""
    service = served(installation)
    if service is None:
        return []
    with service, service.client() as client:
        verified = zip(revoked, verdicts(client, revoked), strict=True)
        refreshable = [each for each in revoked if each.refresh_token]
        refreshed = zip(refreshable, refreshes(client, refreshable), strict=True)
        return [
            f"{each.token_id}: {verdict}"
            for each, verdict in (*verified, *refreshed)
            if verdict in ("VERIFIED", "REFRESHED")
        ]


def served(installation: Installation) -> Running | None:
    """Start the service on the store; return None if it refuses because a restore is unfinished.

    A start that fails because Redis did not answer in time, as on a busy machine, is tried again.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        said_before = len(installation.log)
        try:
            return installation.serve()
        except AssertionError:
            said = installation.log[said_before:]
            if "a restore or a migration into this store was not finished" in said:
                return None
            assert "cannot reach Redis" in said, said
            assert time.monotonic() < deadline, said


def restored_denials(store: str) -> int:
    """Return the number of denials in the store's log, from which each replica learns them."""
    settings = Settings.model_validate({"store": store, "master_key": MASTER_KEY})
    opened = open_store(settings, SystemClock())
    try:
        entries = opened.log.read(0, 1_000_000).entries
        return sum(isinstance(entry.change, TokenDenied) for entry in entries)
    finally:
        opened.close()
