"""Ids that begin with a hyphen, as one in 64 does: commands take them as ids and not as options."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from identity_service.cli.app import app
from identity_service.cli.ids import with_ids_last
from identity_service.composition.opening import open_vault
from identity_service.domain.ids import SessionId, TokenId
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.services import issue, token_maker
from identity_service.storage.sqlite import SqliteStore
from tests.cli.conftest import Run, RunJson
from tests.rpc.conftest import running, settings_for_tests
from tests.rpc.world import World

OPTIONS = {"--reason": True, "--target": True, "--client-id": True, "--yes": False, "-y": False}
SID, KID, SHORT = f"-y{'A' * 20}", f"--{'B' * 41}", "-yes_-_-yes"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    path = str(tmp_path / "served.db")
    with running(settings_for_tests(), lambda clock: SqliteStore.open(path, clock=clock)) as world:
        yield world


@pytest.fixture
def as_admin(run: Run, world: World) -> RunJson:
    secret = world.admin.credential.client_secret
    environ = {
        "IDENTITY_TARGET": world.target,
        "IDENTITY_CLIENT_ID": secret.client_id,
        "IDENTITY_CLIENT_SECRET": secret.client_secret,
    }

    def as_admin(*words: str, **options: Any) -> Any:
        return json.loads(run(*words, "--json", **(environ | options)).stdout)

    return as_admin


def key_with_a_hyphen_first(world: World, purpose: KeyPurpose, algorithm: str) -> StoredKey:
    vault = open_vault(world.settings)
    while True:
        made = vault.make(purpose, algorithm, world.clock.now())
        if made.key_id.startswith("-"):
            return made


@pytest.mark.parametrize(
    ("purpose", "algorithm"),
    [(KeyPurpose.SIGN, "EdDSA"), (KeyPurpose.SIGN, "HS256"), (KeyPurpose.REFRESH, "HS256")],
)
@pytest.mark.parametrize("after", [False, True], ids=["first", "after-an-option"])
def test_a_key_is_retired(
    world: World, as_admin: RunJson, purpose: KeyPurpose, algorithm: str, *, after: bool
) -> None:
    key = key_with_a_hyphen_first(world, purpose, algorithm)
    world.store.records.create(key)
    options = ["--yes", "--reason", "it leaked"]

    done = as_admin("key", "retire", *(options if after else []), key.key_id, *([] if after else options))

    assert (done["key_id"], done["retired"]) == (key.key_id, True)
    listed = {row["key_id"]: row["state"] for row in as_admin("key", "list")}
    assert listed[key.key_id] == "revoked"


def test_retiring_a_key_asks_for_confirmation_whatever_its_id(world: World, run: Run) -> None:
    """An id that begins with `-y` is not taken for the option `-y`, which would skip the question."""
    result = run("key", "retire", SHORT, code=1, IDENTITY_TARGET=world.target)

    assert f"Retire {SHORT}, and refuse everything that was made with it, for ever?" in result.stderr
    assert "nothing was changed, since there was no answer; --yes answers in advance" in result.stderr


@pytest.mark.parametrize("session_id", [SID, f"--{'C' * 20}"])
def test_a_session_is_revoked(
    world: World, as_admin: RunJson, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issue, "new_session_id", lambda: SessionId(session_id))
    tokens = world.issue(world.new_user())
    assert world.reason(tokens.access_token) == ""

    assert as_admin("session", "revoke", session_id)["count"] == 1

    assert world.reason(tokens.access_token) == "REVOKED"


@pytest.mark.parametrize("option", ["--token-id", "--session-id"])
def test_the_value_of_an_option_may_begin_with_a_hyphen(
    world: World, as_admin: RunJson, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issue, "new_session_id", lambda: SessionId(SID))
    monkeypatch.setattr(token_maker, "new_token_id", lambda: TokenId(SID))
    tokens = world.issue(world.new_user())
    assert world.reason(tokens.access_token) == ""
    monkeypatch.undo()

    as_admin("token", "revoke", option, SID)

    assert world.reason(tokens.access_token) == "REVOKED"


def test_all_sessions_are_revoked_but_one(
    world: World, as_admin: RunJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = world.new_user()
    other = world.issue(user)
    monkeypatch.setattr(issue, "new_session_id", lambda: SessionId(SID))
    kept = world.issue(user)

    assert as_admin("session", "revoke", "--all-but", SID, "--user", "ana")["count"] == 1

    assert (world.reason(kept.access_token), world.reason(other.access_token)) == ("", "REVOKED")


@pytest.mark.parametrize(
    ("words", "parsed"),
    [
        ([SID], ["--", SID]),
        ([KID, "--yes"], ["--yes", "--", KID]),
        (["--reason", SID, KID], ["--reason", SID, "--", KID]),
        (["--reason", "-y", "-y", SHORT], ["--reason", "-y", "-y", "--", SHORT]),
        (["--client-id", "admin", "ordinary"], ["--client-id", "admin", "ordinary"]),
        (["--", SID, "--yes"], ["--", SID, "--yes"]),
        ([SID, "--", KID], ["--", SID, KID]),
        (["--reason"], ["--reason"]),
        (["--raeson", "x", "-x"], ["--raeson", "x", "-x"]),
        (["--audiences", "x"], ["--audiences", "x"]),
        ([f"--reason={SID}"], [f"--reason={SID}"]),
    ],
    ids=str,
)
def test_only_ids_are_moved_and_never_the_value_of_an_option(words: list[str], parsed: list[str]) -> None:
    assert with_ids_last(words, OPTIONS) == parsed


def commands_of(group: Any, *names: str) -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, *names, name)
        else:
            yield " ".join((*names, name)), command


COMMANDS = dict(commands_of(typer.main.get_command(app)))


def parse(command: Any, *words: str) -> dict[str, Any]:
    """Return a function that parses a command's arguments without prompting for missing ones."""
    context = command.make_context("command", list(words), resilient_parsing=True)
    parameters: dict[str, Any] = context.params
    return parameters


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_reads_an_id_with_a_hyphen_as_an_argument(name: str) -> None:
    command = COMMANDS[name]
    arguments = [each.name for each in command.params if each.param_type_name == "argument"]
    ids = [SID, KID][: len(arguments)]

    parsed = parse(command, *ids)

    assert [str(parsed[argument]) for argument in arguments] == ids


def test_every_option_takes_an_id_with_a_hyphen() -> None:
    named = {"--token-id", "--session-id", "--all-but", "--user", "--subject", "--client", "--principal"}
    seen = set()
    for command in COMMANDS.values():
        for option in command.params:
            if named.intersection(option.opts):
                assert parse(command, option.opts[0], SID)[option.name] == SID
                seen.add(option.opts[0])

    assert seen == named


def test_an_option_that_there_is_not_is_still_called_wrong(run: Run) -> None:
    assert "--everyone" in run("session", "revoke", "--everyone", code=2).stderr
    assert "No such option" in run("key", "retire", "some-key", "-x", code=2).stderr
