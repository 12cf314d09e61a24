"""Commands in the folder of a trial service (`identity serve --dev`) find its store and master key."""

import pytest

from identity_service.cli import dev
from identity_service.cli.demo import TRIAL_DEFAULTS
from identity_service.cli.local_settings import load
from tests.cli.conftest import Run, RunJson


@pytest.fixture(autouse=True)
def _trial(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a trial in this folder; the environment has no master key."""
    monkeypatch.delenv("IDENTITY_MASTER_KEY")
    monkeypatch.setenv("IDENTITY_STORE", "sqlite:///var/identity.db")
    flags = dev.flags(load(None, TRIAL_DEFAULTS))
    dev.prepare(load(None, **flags).settings)


def test_doctor_finds_the_trial_healthy(run: Run, run_json: RunJson) -> None:
    report = run_json("doctor")

    assert {line["result"] for line in report} == {"ok"}
    assert {"master key", "keys"} <= {line["check"] for line in report}
    assert "with the master key of the trial in this folder, var/master.key" in run("doctor").stderr


def test_doctor_does_not_ask_for_the_url_that_the_trial_chooses_itself(run_json: RunJson) -> None:
    report = run_json("doctor", IDENTITY_WEB_ORIGINS="http://127.0.0.1:8000")
    listening = run_json("doctor", IDENTITY_HTTP_LISTEN="127.0.0.1:8080")

    (issuer,) = (line for line in report if line["check"] == "issuer name")
    assert issuer["advice"] == "that of a trial (--dev): the URL at which it serves HTTP"
    assert {line["result"] for line in listening} == {"ok"}


def test_a_backup_of_the_trial_needs_no_setting(run: Run) -> None:
    run("backup", "trial.backup")


def test_another_store_has_no_part_of_the_trial(run: Run) -> None:
    refused = run("init", "--store", "sqlite:///other.db", code=1)

    assert "IDENTITY_MASTER_KEY_FILE" in refused.stderr


def test_a_master_key_that_the_operator_sets_comes_first(run: Run) -> None:
    refused = run("doctor", code=1, IDENTITY_MASTER_KEY="another master key, which is long enough")

    assert "master key does not open" in " ".join(refused.output.split())
    assert "of the trial" not in refused.stderr
