"""`identity token` with a running service, and exit codes that scripts can use."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.rpc.conftest import StartWorld, start_world
from tests.rpc.world import PASSWORD, World

__all__ = ["start_world"]
RunJson = Callable[..., Any]


@pytest.fixture
def world(start_world: StartWorld) -> World:
    world = start_world()
    world.new_user()
    return world


def test_the_whole_round(world: World, run: Run, run_json: RunJson) -> None:
    target = ("--target", world.target)
    tokens = run_json("token", "issue", "--username", "ana", *target, IDENTITY_PASSWORD=PASSWORD)
    said = run_json("token", "verify", tokens["access_token"], "-a", "api", "-s", "read", *target)
    renewed = run_json("token", "refresh", tokens["refresh_token"], *target)
    revoked = run_json("token", "revoke", "-", *target, stdin=renewed["refresh_token"] + "\n")
    verify = ("token", "verify", renewed["access_token"], "-a", "api", *target)

    assert said["verified"] is True
    assert said["session_id"] == tokens["session_id"]
    refused = run_json(*verify, "--at-least-revision", revoked["revision"], code=3)
    assert (refused["verified"], refused["reason"]) == (False, "REVOKED")
    assert (
        "SESSION_ENDED" in run("token", "refresh", renewed["refresh_token"], *target, "--json", code=3).stdout
    )


def test_by_client_secret_printing_one_value(world: World, run: Run) -> None:
    client = world.new_client()
    secret = client.credential.client_secret.client_secret
    words = ("token", "issue", "--client-id", client.id, "--target", world.target, "-s", "read")

    printed = run(*words, "--print", "access_token", IDENTITY_CLIENT_SECRET=secret).stdout.strip()

    assert world.reason(printed) == ""
    run(*words, "--print", "nothing", code=2, IDENTITY_CLIENT_SECRET=secret)
    assert "refused" in run(*words, code=3, IDENTITY_CLIENT_SECRET="wrong").stderr
    asked = run(*words, stdin=f"{secret}\n")
    assert secret not in asked.output


@pytest.mark.parametrize("level", ["--token-id", "--session-id", "--subject", "--client", "--everything"])
def test_other_targets_than_the_own_token_need_a_permitted_caller(world: World, run: Run, level: str) -> None:
    target = ("--target", world.target)
    words = ("token", "revoke", level, *(() if level == "--everything" else ("x",)), *target)

    assert "name the caller" in run(*words, code=2).stderr
    run(*words, code=3, IDENTITY_TOKEN=world.admin_token(["identity.verify"]))
    run(*words, IDENTITY_TOKEN=world.admin_token())
    secret = world.admin.credential.client_secret.client_secret
    if level != "--everything":  # which has taken back the token above, not the secret
        run(*words, "--client-id", world.admin.id, IDENTITY_CLIENT_SECRET=secret)


def test_a_call_that_names_nothing_or_too_much_is_called_wrongly(run: Run) -> None:
    run("token", "issue", code=2)
    run("token", "verify", "x", code=2)
    run("token", "revoke", code=2)
    run("token", "revoke", "x", "--everything", code=2)


def test_a_refused_connection_is_unavailable(run: Run) -> None:
    result = run("token", "verify", "x", "--any-audience", "--target", "127.0.0.1:1", code=4)

    assert "Traceback" not in result.output


def test_inspect_works_offline_and_warns_that_it_verifies_nothing(world: World, run: Run) -> None:
    token = world.issue(world.new_client()).access_token

    human = run("token", "inspect", token)
    found = json.loads(run("token", "inspect", "-", "--json", stdin=token).stdout)

    assert "Not verified" in human.stderr
    assert found["claims"]["sub"] == "reports"
    assert (found["header"]["typ"], found["verified"]) == ("at+jwt", False)
    for bad in ("x", "a.b.c", "a.b.c.d.e"):
        assert "cannot be read" in run("token", "inspect", bad, code=1).stderr


def test_a_token_is_encrypted_for_the_recipient_of_the_option(
    world: World, run: Run, run_json: RunJson
) -> None:
    target = ("--target", world.target)
    issue = ("token", "issue", "--username", "ana", *target)
    tokens = run_json(*issue, "--encrypt", "service", IDENTITY_PASSWORD=PASSWORD)

    assert tokens["access_token"].count(".") == 4
    assert run_json("token", "verify", tokens["access_token"], "-a", "api", *target)["verified"] is True
    refused = run(*issue, "--encrypt", "audience", code=1, IDENTITY_PASSWORD=PASSWORD)
    assert "encryption_key" in refused.stderr
    assert run(*issue, "--encrypt", "everybody", code=2, IDENTITY_PASSWORD=PASSWORD).stderr


def test_a_password_that_is_not_utf_8_is_called_so_and_not_shown(run: Run) -> None:
    """A terminal with Latin-1 sends passwords that are not UTF-8."""
    failed = run("token", "issue", "--username", "ana", code=2, IDENTITY_PASSWORD="geheim\udce4")

    assert "is not UTF-8" in failed.stderr
    assert "geheim" not in failed.output
    assert "udce4" not in failed.output
