"""Tests in which SQLite's files are removed or replaced while the service runs on them.

The service must keep every acknowledged write, or refuse calls.
"""

import re
from pathlib import Path

import pytest

from identity_client import Rejected, UnavailableError, Verified
from tests.e2e.process import Installation
from tests.faults.administrator_tokens import acknowledges, issue, refusal, said_by
from tests.faults.tally import Tally
from tests.ports import reserve_port
from tests.redis_topology import until

pytestmark = pytest.mark.slow
TOKENS = 20


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    installation = Installation(tmp_path, f"sqlite:///{tmp_path}/identity.db", forked=True)
    installation.init()
    return installation


def remove(folder: Path, *endings: str) -> None:
    for ending in endings:
        (folder / f"identity.db{ending}").unlink()


@pytest.mark.parametrize("endings", [("-wal", "-shm"), ("-wal",), ("-shm",)])
def test_revocations_acknowledged_after_the_log_was_removed_are_kept(
    installation: Installation, tmp_path: Path, endings: tuple[str, ...]
) -> None:
    port = reserve_port()
    with installation.serve(port=port) as service, service.client(max_attempts=1) as client:
        tokens, kept = issue(client, installation, TOKENS), issue(client, installation, 5)
        client.revoke_token(tokens[0])
        remove(tmp_path, *endings)
        acknowledged = [token for token in tokens if acknowledges(client, token)]
        installation.await_event("store_reopened")
        service.kill()

    with installation.serve(port=port) as service, service.client() as client:
        outcomes = [client.verify(token, any_audience=True) for token in acknowledged]
        controls = [client.verify(token, any_audience=True) for token in kept]

    tally = Tally(scenario=f"{' and '.join(endings)} removed under the service, SQLite")
    tally.revoked(len(acknowledged))
    tally.answered(*(isinstance(outcome, Verified) for outcome in outcomes))
    tally.asked(len(controls))
    tally.publish()
    assert len(acknowledged) == TOKENS
    assert [o.reason for o in outcomes if isinstance(o, Rejected)] == ["REVOKED"] * TOKENS
    assert all(isinstance(control, Verified) for control in controls)
    assert len(installation.events("store_reopened")) == 1


def test_workers_that_share_the_files_keep_the_revocations_of_each_of_them(
    installation: Installation, tmp_path: Path
) -> None:
    """The worker that first notices the removal saves the whole log; no other worker loses a write."""
    port = reserve_port()
    with installation.serve("--workers", "3", port=port) as service:
        until(lambda: "serving on" in installation.log)  # all: a worker cannot start without the files
        acknowledged: list[str] = []
        kept: list[str] = []
        for _ in range(3):
            with service.client() as client:
                tokens = issue(client, installation, TOKENS)
                kept += issue(client, installation, 1)
            remove(tmp_path, "-wal", "-shm")
            for token in tokens:
                with service.client(max_attempts=1) as client:  # a new connection: any worker
                    acknowledged += [token] if acknowledges(client, token) else []
        assert service.terminate() == 0

    with installation.serve(port=port) as service, service.client() as client:
        outcomes = [client.verify(token, any_audience=True) for token in acknowledged]
        controls = [client.verify(token, any_audience=True) for token in kept]

    tally = Tally(scenario="-wal and -shm removed under three workers, SQLite")
    tally.revoked(len(acknowledged))
    tally.answered(*(isinstance(outcome, Verified) for outcome in outcomes))
    tally.asked(len(controls))
    tally.publish()
    assert len(acknowledged) >= 2 * TOKENS
    assert [o.reason for o in outcomes if isinstance(o, Rejected)] == ["REVOKED"] * len(acknowledged)
    assert all(isinstance(control, Verified) for control in controls)
    assert len(installation.events("store_reopened")) >= 3


def test_a_file_that_was_moved_away_is_named_and_calls_succeed_once_it_is_back(
    installation: Installation, tmp_path: Path
) -> None:
    installation.environment |= {"IDENTITY_MAX_STALENESS": "1s", "IDENTITY_HEARTBEAT_INTERVAL": "200ms"}
    file = tmp_path / "identity.db"
    with installation.serve() as service, service.client(max_attempts=1) as client:
        tokens = issue(client, installation, 3)
        file.rename(tmp_path / "elsewhere.db")
        assert not acknowledges(client, tokens[0])
        until(lambda: said_by(client, tokens[1]) != "VERIFIED")
        with pytest.raises(UnavailableError, match=str(file)):
            client.verify(tokens[1], any_audience=True)
        with pytest.raises(UnavailableError, match=str(file)):
            client.revoke_token(tokens[1])

        (tmp_path / "elsewhere.db").rename(file)
        until(lambda: said_by(client, tokens[2]) == "VERIFIED")
        client.revoke_token(tokens[1])
        outcome = client.verify(tokens[0], any_audience=True)
        installation.await_event("store_mended")

    assert isinstance(outcome, Rejected)
    (refused,) = installation.events("store_refused")
    assert refused["level"] == "error"
    assert str(file) in refused["what"]
    assert len(installation.events("store_mended")) == 1


def test_a_file_that_another_was_copied_over_is_unavailable_by_name_or_has_everything_again(
    installation: Installation, tmp_path: Path
) -> None:
    """`cp old.db live.db` gives the open file other content, which SQLite itself does not notice.

    The service must either refuse calls with an error that names the file, or, if the new content happens to
    be consistent, read it as an older log and repair the facts that it knows.
    """
    file = tmp_path / "identity.db"
    old = file.read_bytes()

    with installation.serve() as service, service.client(max_attempts=1) as client:
        tokens = issue(client, installation, 400)
        # Wait until SQLite has copied its write-ahead log into the file.
        size = file.stat().st_size
        revoked = [token for token in tokens[:-20] if acknowledges(client, token)]
        until(lambda: file.stat().st_size > size or not revoked)
        file.write_bytes(old)
        named = re.compile(f"{re.escape(str(file))}|the store is damaged: ")
        until(lambda: bool(named.search(refusal(client, tokens[-1])) or installation.events("log_repaired")))
        outcomes = [said_by(client, token) for token in revoked]

    assert not installation.events("follower_bug")
    assert set(outcomes) <= {"REVOKED", "UNAVAILABLE"}
