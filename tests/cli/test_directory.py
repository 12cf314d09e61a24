"""`identity init`, `client`, `user`, `config`, `doctor`: on the store, without the service."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run

RunJson = Callable[..., Any]


@pytest.fixture(autouse=True)
def _initialised(request: pytest.FixtureRequest, run: Run) -> None:
    if "virgin" not in request.keywords:
        run("init")


@pytest.mark.virgin
def test_init_prints_the_administrators_secret_once(run: Run, run_json: RunJson) -> None:
    made = run_json("init")
    again = run("init", code=1)

    assert made["client_id"] == "admin"
    assert made["client_secret"].startswith("idcs_")
    assert "already" in again.stderr
    assert made["client_secret"] not in run("client", "show", "admin").output


@pytest.mark.virgin
def test_init_with_a_setting_that_cannot_be_leaves_the_store_virgin(run: Run) -> None:
    assert "32 characters" in run("init", code=1, IDENTITY_MASTER_KEY="short").stderr
    assert "IDENTITY_ALGORITHM" in run("init", code=1, IDENTITY_ALGORITHM="none").stderr
    run("init")


@pytest.mark.virgin
def test_a_store_that_was_not_initialised_says_so(run: Run) -> None:
    assert "identity init" in run("client", "create", "x", code=4).stderr


def test_a_client_is_created_shown_listed_disabled_and_deleted(run: Run, run_json: RunJson) -> None:
    made = run_json(
        "client", "create", "reports", "-a", "api", "-s", "read", "-s", "write", "--max-lifetime", "60"
    )
    shown = run_json("client", "show", "reports")

    assert made["client_secret"].startswith("idcs_")
    assert (shown["audiences"], shown["scopes"]) == (["api"], ["read", "write"])
    assert (shown["max_lifetime"], shown["secrets"], shown["disabled"]) == (60.0, 1, False)
    assert {row["client_id"] for row in run_json("client", "list")} == {"admin", "first-party", "reports"}
    run("client", "disable", "reports")
    assert run_json("client", "show", "reports")["disabled"] is True
    run("client", "disable", "reports", "--enable")
    assert run_json("client", "show", "reports")["disabled"] is False
    run("client", "delete", "reports", code=1, stdin="n\n")
    run("client", "delete", "reports", "--yes")
    assert "no client" in run("client", "show", "reports", code=1).stderr


def test_a_secret_is_rotated_with_an_overlap(run: Run, run_json: RunJson) -> None:
    first = run_json("client", "create", "reports")["client_secret"]
    second = run_json("client", "rotate-secret", "reports", "--overlap", "60")["client_secret"]

    assert first != second
    assert run_json("client", "show", "reports")["secrets"] == 2
    run("client", "rotate-secret", "reports")
    assert run_json("client", "show", "reports")["secrets"] == 1
    assert "public" in run("client", "rotate-secret", "first-party", code=1).stderr
    assert "30 days" in run("client", "rotate-secret", "reports", "--overlap", "9999999", code=1).stderr


def test_a_public_client_has_no_secret(run_json: RunJson) -> None:
    assert run_json("client", "create", "kiosk", "--public") == {"client_id": "kiosk"}
    assert run_json("client", "show", "kiosk")["grants"] == ["password", "refresh_token"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("-x",), ""),
        (("a b",), "client_id"),
        (("u_taken",), "client_id"),
        (("x", "-a", "with space"), "audiences"),
        (("x", "-s", 'quo"te'), "scopes"),
        (("x", "-s", "identity.root"), "scopes"),
        (("x", "--public", "--grant", "client_credentials"), "grants"),
        (("admin",), "already"),
    ],
)
def test_a_client_that_cannot_be_is_refused_by_field(run: Run, words: tuple[str, ...], named: str) -> None:
    assert named in run("client", "create", *words, code=1 if named else 2).stderr


def test_a_user_is_created_shown_listed_disabled_and_deleted(run: Run, run_json: RunJson) -> None:
    made = run_json("user", "create", "ana", "-a", "api", "--password-stdin", stdin="long enough\n")

    assert made["user_id"].startswith("u_")
    assert run_json("user", "show", "ANA")["user_id"] == made["user_id"]
    assert run_json("user", "show", made["user_id"])["username"] == "ana"
    assert [row["username"] for row in run_json("user", "list")] == ["ana"]
    run("user", "disable", "ana")
    assert run_json("user", "show", "ana")["disabled"] is True
    run("user", "set-password", "ana", "--password-stdin", stdin="another one\n")
    taken = run("user", "create", "Ana", "--password-stdin", stdin="long enough\n", code=1)
    assert "taken" in taken.stderr
    run("user", "delete", "ana", "--yes")
    assert "no user" in run("user", "show", "ana", code=1).stderr


def test_a_password_is_asked_for_twice(run: Run) -> None:
    run("user", "create", "ana", stdin="long enough\nlong enough\n")
    shown = run("user", "create", "bea", stdin="short\nshort\n", code=1)

    assert "8 to 1,024" in shown.stderr
    assert "long enough" not in shown.output


@pytest.mark.parametrize("username", ["", "a b", "x" * 129, "a\tb"])
def test_a_username_that_cannot_be_is_refused(run: Run, username: str) -> None:
    result = run("user", "create", username, "--password-stdin", stdin="long enough\n", code=1)

    assert "username" in result.stderr


def test_lists_are_paged(run: Run, run_json: RunJson) -> None:
    for name in ("c1", "c2", "c3"):
        run("client", "create", name)

    assert [row["client_id"] for row in run_json("client", "list", "--after", "c1", "--limit", "1")] == ["c2"]


def test_config_show_says_where_values_come_from_and_masks_secrets(
    run: Run, run_json: RunJson, tmp_path: Path
) -> None:
    (tmp_path / "identity.toml").write_text('leeway = "7s"')

    rows = {row["setting"]: row for row in run_json("config", "show")}

    assert (rows["leeway"]["value"], rows["leeway"]["from"]) == ("7s", "identity.toml")
    assert (rows["master_key"]["value"], rows["master_key"]["from"]) == ("***", "IDENTITY_MASTER_KEY")
    assert rows["issuer"]["from"] == "default"
    assert all(row["meaning"] for row in rows.values())


def test_config_check_names_what_is_wrong(run: Run, run_json: RunJson) -> None:
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


@pytest.mark.virgin
def test_doctor_names_a_store_that_was_not_initialised(run: Run) -> None:
    assert "identity init" in " ".join(run("doctor", code=1).output.split())


@pytest.mark.virgin
def test_doctor_names_a_store_that_cannot_be_reached(run: Run) -> None:
    result = run("doctor", code=1, IDENTITY_STORE="redis://user:hunter2@127.0.0.1:1/0")

    assert "FAIL" in result.output
    assert "hunter2" not in result.output
