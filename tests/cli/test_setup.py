"""`identity init`, `config` and `doctor`, which use the store and the settings without a service."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run

RunJson = Callable[..., Any]


@pytest.fixture(autouse=True)
def _initialised(request: pytest.FixtureRequest, run: Run) -> None:
    if "uninitialised" not in request.keywords:
        run("init")


@pytest.mark.uninitialised
def test_init_prints_the_administrators_secret_once(run: Run, run_json: RunJson) -> None:
    made = run_json("init")
    again = run("init", code=1)

    assert made["client_id"] == "admin"
    assert made["client_secret"].startswith("idcs_")
    assert "already" in again.stderr


@pytest.mark.uninitialised
def test_init_with_a_setting_that_cannot_be_leaves_the_store_uninitialised(run: Run) -> None:
    assert "32 characters" in run("init", code=1, IDENTITY_MASTER_KEY="short").stderr
    assert "IDENTITY_ALGORITHM" in run("init", code=1, IDENTITY_ALGORITHM="none").stderr
    run("init")


def test_each_wrong_setting_has_a_line_that_names_the_program(run: Run) -> None:
    said = run("init", code=1, IDENTITY_ALGORITHM="none", IDENTITY_WORKERS="x").stderr.splitlines()

    assert [line.split(": ")[:2] for line in said] == [["identity", "algorithm"], ["identity", "workers"]]


def test_config_show_prints_the_source_of_each_value_and_masks_secrets(
    run: Run, run_json: RunJson, tmp_path: Path
) -> None:
    (tmp_path / "identity.toml").write_text('leeway = "7s"')

    rows = {row["setting"]: row for row in run_json("config", "show")}

    assert (rows["leeway"]["value"], rows["leeway"]["from"]) == ("7s", "identity.toml")
    assert (rows["master_key"]["value"], rows["master_key"]["from"]) == ("***", "IDENTITY_MASTER_KEY")
    assert rows["issuer"]["from"] == "default"
    assert all(row["meaning"] for row in rows.values())


def test_config_check_names_the_wrong_setting(run: Run, run_json: RunJson) -> None:
    assert run_json("config", "check") == {"valid": True}
    result = run("config", "check", code=1, IDENTITY_LEWAY="1s")
    assert "did you mean leeway" in result.stderr
    assert json.loads(run("config", "check", "--json", code=1, IDENTITY_LEWAY="1s").stdout)["error"]


def test_doctor_finds_a_healthy_store_healthy(run_json: RunJson) -> None:
    report = run_json("doctor")

    assert {line["check"] for line in report} >= {"settings", "master key", "store", "clock", "keys"}
    assert {line["result"] for line in report} == {"ok"}


def test_doctor_names_a_master_key_that_opens_nothing(run: Run) -> None:
    result = run("doctor", code=1, IDENTITY_MASTER_KEY="another master key, which is long enough")

    assert "FAIL" in result.output
    assert "master key does not open" in " ".join(result.output.split())


@pytest.mark.uninitialised
def test_doctor_names_a_store_that_was_not_initialised(run: Run) -> None:
    assert "identity init" in " ".join(run("doctor", code=1).output.split())


@pytest.mark.uninitialised
def test_doctor_names_a_store_that_cannot_be_reached(run: Run) -> None:
    result = run("doctor", code=1, IDENTITY_STORE="redis://user:hunter2@127.0.0.1:1/0")

    assert "FAIL" in result.output
    assert "hunter2" not in result.output
