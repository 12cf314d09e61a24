"""`identity watch` as a process: its output, how it resumes, and how it ends."""

import json
import signal
from pathlib import Path

import pytest

from tests.cli.watching import watching
from tests.e2e.process import Installation
from tests.patience import PATIENCE
from tests.ports import refusing_address, reserve_port


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(folder=tmp_path, store=f"sqlite:///{tmp_path / 'identity.db'}", forked=True)


def test_it_prints_changes_and_resumes_after_the_service_was_stopped(installation: Installation) -> None:
    admin = installation.init()
    secret = (admin["client_id"], admin["client_secret"])
    port = reserve_port()
    with installation.serve(port=port) as service, watching(service.target, "watch", "--json") as watch:
        lines = [json.loads(line) for line in watch.until("known")]
        assert [line["event"] for line in lines] == ["restarted", "keys", "known"]
        with service.client() as client:
            tokens = client.issue_with_secret(*secret, scopes=["identity.revoke"])
            client.revoke_token(tokens.access_token)
        (denied, known) = (json.loads(line) for line in watch.until("known"))
        assert (denied["event"], denied["id"]) == ("token_denied", tokens.token_id)

        assert service.terminate() == 0
        watch.until("trying again", watch.err)
        with installation.serve(port=port) as again, again.client() as client:
            bearer = client.issue_with_secret(*secret, scopes=["identity.revoke"]).access_token
            with again.client(bearer=bearer) as allowed:
                allowed.revoke_subject("ana")
            seen = [json.loads(line) for line in watch.until("generation_raised")]
            assert seen[-1]["id"] == "ana"
        assert watch.end(signal.SIGINT) == 0
    assert known["revision"]


def test_human_output_has_a_line_for_each_change_and_heartbeats_with_verbose(
    installation: Installation,
) -> None:
    installation.init()
    with installation.serve() as service, watching(service.target, "watch", "--verbose") as watch:
        printed = watch.until("heartbeat")
        assert any("keys" in line and "ES256 signing" in line for line in printed)
        assert watch.end(signal.SIGTERM) == 0


def test_without_a_service_it_ends_with_an_error() -> None:
    with refusing_address() as target, watching(target) as watch:
        assert watch.process.wait(PATIENCE) == 4
        watch.until("identity:", watch.err)
