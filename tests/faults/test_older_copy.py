"""Tests in which an older copy of the store's files is restored: same epoch, but a different history.

After the restore, all tokens are revoked, and the log grows past the position where a watcher had stopped.
The parties that saw the lost history must still learn of the revocation: a LocalVerifier, a watcher with any
earlier revision, and a process that was paused meanwhile.
"""

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from identity_client import (
    IdentityClient,
    LocalVerifier,
    NotFreshError,
    Rejected,
    TrustClient,
    Verified,
)
from identity_client.trust import GenerationRaised, WatchEvent
from tests.e2e.process import Installation, Running
from tests.faults.administrator_tokens import said_by
from tests.faults.conftest import FULL
from tests.faults.proxy import CLEAR, Impairment, Proxy
from tests.faults.tally import Tally
from tests.patience import until
from tests.redis_server import RedisServer

ROUNDS: Final = FULL // 20 or 1
WATCHERS: Final = 10
LOST: Final = 5
"""Number of log entries that the copy lacks; one more than this number are written after the restore."""
PATIENCE: Final = 60.0
ISSUER: Final = "https://copies.example"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 + 60 * ROUNDS)]


@dataclass
class Site:
    """One store that a test copies and restores as files, as an operator would do by hand."""

    folder: Path
    redis: RedisServer | None
    installation: Installation
    admin: dict[str, str]

    def serve(self) -> Running:
        return self.installation.serve()

    @contextmanager
    def caller(self, service: Running) -> Iterator[IdentityClient]:
        """Yield a client with the scopes to revoke and verify, whose token `service` has just issued."""
        with service.client() as client:
            token = self.issue(client)
        with service.client(bearer=token) as client:
            yield client

    def issue(self, client: IdentityClient) -> str:
        scopes = ["identity.revoke", "identity.verify"]
        issued = client.issue_with_secret(self.admin["client_id"], self.admin["client_secret"], scopes=scopes)
        return issued.access_token

    @contextmanager
    def store_stopped(self) -> Iterator[None]:
        if self.redis is not None:
            self.redis.stop()
        yield
        if self.redis is not None:
            self.redis.start()

    def copy(self) -> None:
        """Copy the store's files on the disk; the caller stops the store first."""
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        shutil.copytree(self._data, self.folder / "copy")

    def restore(self) -> None:
        """Replace the store's files by the copy; a process with the old files open continues to use those."""
        shutil.rmtree(self.folder / "moved", ignore_errors=True)
        self._data.rename(self.folder / "moved")
        shutil.copytree(self.folder / "copy", self._data)

    @property
    def _data(self) -> Path:
        return self.folder / "data"


@pytest.fixture(params=["sqlite", "redis"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    settings = {
        "IDENTITY_ISSUER": ISSUER,
        "IDENTITY_HEARTBEAT_INTERVAL": "100ms",
        "IDENTITY_ACCESS_TOKEN_LIFETIME": "10m",
    }
    data = tmp_path / "data"
    data.mkdir()
    redis = RedisServer(data) if request.param == "redis" else None
    if redis is not None:
        redis.start()
    try:
        store = redis.url if redis is not None else f"sqlite:///{data}/identity.db"
        installation = Installation(tmp_path, store, settings, forked=True)
        yield Site(folder=tmp_path, redis=redis, installation=installation, admin=installation.init())
    finally:
        if redis is not None:
            redis.stop()


def history_is_replaced(site: Site, service: Running, *, everything: bool) -> Running:
    """Stop the service, restore the copy, and append more entries than were lost; return a new service.

    The new service starts before the log grows, so that it reads the entries one by one. A service that
    starts later reads them as one page, and sends that whole page to a watcher that resumes in the middle of
    it, which would hide a fault.
    """
    service.kill()
    with site.store_stopped():
        site.restore()
    after = site.serve()
    with site.caller(after) as caller:
        if everything:
            caller.revoke_everything()
    with site.caller(after) as caller:
        for number in range(LOST + 1):
            caller.revoke_token_id(f"other-{number}")
    return after


def history_is_lost_later(site: Site) -> None:
    """Copy the store; a later restore of the copy loses all entries that are written from now on."""
    with site.store_stopped():
        site.copy()


def wait_until_all_know(verifiers: Sequence[LocalVerifier], revision: str) -> None:
    """Wait until each verifier has reached this revision and is fresh."""
    until(lambda: {verifier._state.revision for verifier in verifiers} == {revision}, PATIENCE)
    for verifier in verifiers:
        verifier.wait_ready(timedelta(seconds=PATIENCE))


def outcome(verifier: LocalVerifier, token: str) -> str:
    """Return "VERIFIED", the reason of the rejection, or "NOT_FRESH" if the verifier cannot answer."""
    try:
        said = verifier.verify(token, any_audience=True)
    except NotFreshError:
        return "NOT_FRESH"
    return "VERIFIED" if isinstance(said, Verified) else said.reason


@pytest.mark.parametrize("everything", [True, False], ids=["revoked", "control"])
def test_watchers_that_survive_learn_of_revocations_since(site: Site, everything: bool) -> None:
    store = "SQLite" if site.redis is None else "Redis"
    tally = Tally(scenario=f"older copy restored, LocalVerifiers that survive, {store}", rounds=ROUNDS)
    with ExitStack() as stack:
        stack.callback(tally.publish)
        proxy = Proxy(1)
        stack.callback(proxy.close)
        for _ in range(ROUNDS):
            history_is_lost_later(site)
            service = stack.enter_context(site.serve())
            proxy.upstream = port_of(service)
            proxy.set(CLEAR)
            with site.caller(service) as caller, ExitStack() as watching:
                token = site.issue(caller)
                verifiers = [
                    watching.enter_context(LocalVerifier(f"127.0.0.1:{proxy.port}", issuer=ISSUER))
                    for _ in range(WATCHERS)
                ]
                for number in range(LOST):
                    last = caller.revoke_token_id(f"lost-{number}")
                wait_until_all_know(verifiers, last)
                assert [outcome(verifier, token) for verifier in verifiers] == ["VERIFIED"] * WATCHERS

                proxy.set(Impairment(refused=True))
                service = stack.enter_context(history_is_replaced(site, service, everything=everything))
                proxy.upstream = port_of(service)
                proxy.set(CLEAR)
                with tally.recovering():
                    wait_until_all_know(verifiers, revision_of(service))
                expected = "REVOKED" if everything else "VERIFIED"
                said = [outcome(verifier, token) for verifier in verifiers]
                if everything:
                    tally.revoked(1)
                    tally.answered(*(word == "VERIFIED" for word in said))
                else:
                    tally.asked(len(said))
                assert said == [expected] * WATCHERS
                # The verifiers keep the facts that the restored store has lost.
                assert all("lost-0" in verifier._state.denied for verifier in verifiers)
                assert all("other-0" in verifier._state.denied for verifier in verifiers)
            site.installation.await_event("revision_unrecognised")
            assert same_epoch(last, revision_of(service))
            service.kill()
    assert site.installation.events("epoch_renewed") == [], "no client makes a process start over"
    assert site.installation.events("revision_unrecognised") != []


def test_a_watcher_with_any_former_revision_learns_of_revocations_since(site: Site) -> None:
    """Watch resumes with each revision of the lost history, and must send the revocation of everything.

    Verify with such a revision as `at_least_revision` must reject the revoked token as well.
    """
    history_is_lost_later(site)
    with site.serve() as service, site.caller(service) as caller:
        token = site.issue(caller)
        of_both = revision_of(service)
        epoch = of_both.partition(".")[0]
        lost = [caller.revoke_token_id(f"lost-{number}") for number in range(LOST)]
        last = lost[-1]
        # Revisions in the form of version 0.1.0.
        older = [f"{epoch}.{position_of(place)}" for place in (of_both, lost[0], last)]
        seen = [f"{epoch}.0.-", of_both, *lost, *older, f"{epoch}.0"]
        after = history_is_replaced(site, service, everything=True)
    store = "SQLite" if site.redis is None else "Redis"
    tally = Tally(scenario=f"older copy restored, every revision a watcher ever had, {store}")
    tally.revoked(1)
    with after, TrustClient(after.target) as client, after.client() as verifying:
        for revision in seen:
            raised = [
                revocation
                for event in events_after(client, revision)
                for revocation in event.revocations
                if isinstance(revocation, GenerationRaised)
            ]
            assert [(raise_.principal, raise_.number) for raise_ in raised] == [("*", 1)], revision
            said = verifying.verify(token, any_audience=True, at_least_revision=revision)
            tally.answered(isinstance(said, Verified))
            assert isinstance(said, Rejected)
        tally.publish()
        assert same_epoch(last, revision_of(after))
        assert position_of(revision_of(after)) > position_of(last), "the log has grown past where it was"
    assert site.installation.events("epoch_renewed") == []


@pytest.mark.parametrize("everything", [True, False], ids=["revoked", "control"])
def test_a_process_that_was_only_paused_learns_of_revocations_since(site: Site, everything: bool) -> None:
    """A process that SIGSTOP paused during the restore remembers facts that the restored store has lost.

    On Redis the process must repair these facts. On SQLite its file was replaced, and it may only be
    unavailable until it is restarted.
    """
    history_is_lost_later(site)
    with site.serve() as paused, site.caller(paused) as caller:
        token = site.issue(caller)
        denied = site.issue(caller)
        last = caller.revoke_token(denied)
        for number in range(LOST - 1):
            last = caller.revoke_token_id(f"lost-{number}")
        with site.serve() as service:
            os.kill(paused.process.pid, signal.SIGSTOP)
            try:
                after = history_is_replaced(site, service, everything=everything)
            finally:
                os.kill(paused.process.pid, signal.SIGCONT)
        with after, after.client() as other, paused.client(max_attempts=1) as client:
            if site.redis is None:
                until(lambda: said_by(client, token) in ("UNAVAILABLE", "REVOKED"), PATIENCE)
                assert said_by(client, denied) in ("UNAVAILABLE", "REVOKED")
                return
            expected = "REVOKED" if everything else "VERIFIED"
            until(lambda: not same_epoch(last, revision_of(after)), PATIENCE)
            for process in (client, other):
                until(lambda c=process: said_by(c, denied) == "REVOKED", PATIENCE)  # type: ignore[misc]
                until(lambda c=process: said_by(c, token) != "UNAVAILABLE", PATIENCE)  # type: ignore[misc]
                assert said_by(process, token) == expected
            site.installation.await_event("epoch_renewed")
    assert len(site.installation.events("epoch_renewed")) == 1


def events_after(client: TrustClient, resume_after: str) -> list[WatchEvent]:
    """Return the events that Watch sends, up to and including the first heartbeat."""
    found = []
    for event in client.watch(resume_after=resume_after):
        found.append(event)
        if event.revision and event.time is not None:
            break
    return found


def revision_of(service: Running) -> str:
    with TrustClient(service.target) as client:
        return events_after(client, "")[-1].revision


def position_of(revision: str) -> int:
    return int(revision.split(".")[1])


def same_epoch(one: str, other: str) -> bool:
    return one.partition(".")[0] == other.partition(".")[0]


def port_of(service: Running) -> int:
    return int(service.target.rpartition(":")[2])
