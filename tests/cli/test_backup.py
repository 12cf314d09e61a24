"""`identity backup`, `restore` and `migrate` as commands: their output, questions, refusals and effects."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.cli.conftest import Run
from tests.e2e.process import Installation
from tests.patience import PATIENCE
from tests.redis_server import RedisServer

RunJson = Callable[..., Any]
OTHER_KEY = "another master key, which is long enough"


@pytest.fixture(autouse=True)
def _initialised(run: Run) -> None:
    run("init")


def sqlite(folder: Path, name: str) -> str:
    return f"sqlite:///{folder}/{name}.db"


def test_a_backup_prints_the_number_of_its_items(run_json: RunJson, tmp_path: Path) -> None:
    made = run_json("backup", "it.backup")

    assert (made["clients"], made["keys"], made["users"]) == (2, 6, 0)
    assert made["revision"].count(".") == 2
    assert "sessions" not in made
    assert stat.S_IMODE((tmp_path / "it.backup").stat().st_mode) == 0o600
    assert b"admin" not in (tmp_path / "it.backup").read_bytes()


def test_a_backup_with_another_master_key_than_the_store_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_MASTER_KEY", OTHER_KEY)
    assert "master key does not open" in run("backup", "it.backup", code=1).stderr
    assert not list(tmp_path.glob("*.backup*"))


def test_a_backup_overwrites_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "it.backup").write_text("precious")
    assert "name another file" in run("backup", "it.backup", code=1).stderr
    assert (tmp_path / "it.backup").read_text() == "precious"


def test_a_copy_of_a_store_that_is_not_there_names_it_and_leaves_no_file(run: Run, tmp_path: Path) -> None:
    none = sqlite(tmp_path, "none")
    for words in (("backup", "it.backup", "--store", none), ("migrate", none, sqlite(tmp_path, "new"))):
        refused = run(*words, code=1)
        assert f"there is no store at {tmp_path}/none.db" in refused.stderr
    assert not {*tmp_path.glob("*.backup*"), *tmp_path.glob(".*"), *tmp_path.glob("n*")}


def test_a_backup_of_a_store_that_was_not_initialised_leaves_no_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "none.db").touch()
    refused = run("backup", "it.backup", "--store", sqlite(tmp_path, "none"), code=4)
    assert "initialise" in refused.stderr
    assert not list(tmp_path.glob("*.backup*"))
    assert not list(tmp_path.glob(".*"))


def test_a_restore_into_an_empty_store_asks_nothing(run: Run, run_json: RunJson, tmp_path: Path) -> None:
    made = run_json("backup", "it.backup")
    elsewhere = sqlite(tmp_path, "elsewhere")

    restored = run_json("restore", "it.backup", "--store", elsewhere)

    assert restored["backup_revision"] == made["revision"]
    assert (restored["clients"], restored["possible_again"]) == (2, None)
    assert any("must sign in again" in line for line in restored["advice"])
    assert {line["result"] for line in run_json("doctor", "--store", elsewhere)} == {"ok"}


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("{idn}:log:head", "SET"),
        ("{idn}:log:head", "HSET position"),
        ("{idn}:gen", "SET"),
        ("{idn}:log", "SET"),
        ("{idn}:heartbeats", "SET"),
        ("{idn}:index:user", "SET"),
        ("{idn}:audit", "SET"),
        ("{idn}:copy", "LPUSH"),
    ],
)
def test_a_restore_replaces_a_store_that_is_damaged(
    run: Run, run_json: RunJson, redis_server: RedisServer, key: str, command: str
) -> None:
    redis_server.flush()
    at = ("--store", redis_server.url)
    run("init", *at)
    made = run_json("backup", "it.backup", *at)
    with redis.Redis(port=redis_server.port) as server:
        if command.startswith("HSET"):
            server.hset(key, "position", "not a number")
        else:
            server.delete(key)
            server.execute_command(command, key, "what this service did not write")

    restored = run_json("restore", "it.backup", "--replace", "--yes", *at)

    assert restored["backup_revision"] == made["revision"]
    assert {line["result"] for line in run_json("doctor", *at)} <= {"ok", "note"}


def test_a_restore_over_a_store_wants_replace_and_a_yes(run: Run, tmp_path: Path) -> None:
    run("backup", "it.backup")
    before = (tmp_path / "identity.db").read_bytes()

    assert "--replace" in run("restore", "it.backup", code=1).stderr
    assert "Delete everything in" in run("restore", "it.backup", "--replace", code=1, stdin="n\n").output
    assert (tmp_path / "identity.db").read_bytes() == before

    done = run("restore", "it.backup", "--replace", stdin="y\n").output
    assert "The restore has brought back from" in done
    assert "rotate them" in done


def test_principals_that_may_do_more_again_are_printed_by_name(
    run: Run, run_json: RunJson, tmp_path: Path
) -> None:
    installation = Installation(tmp_path, sqlite(tmp_path, "identity"), forked=True)
    (tmp_path / "identity.db").rename(tmp_path / "unused.db")
    installation.init()
    with installation.serve() as service:
        service.json("client", "create", "reports")
        service.json("client", "create", "billing")
        run("backup", "it.backup")
        service.json("client", "disable", "reports")
        service.json("client", "rotate-secret", "billing", "--overlap", "0")
        assert service.terminate() == 0

    assert "enabled again: client reports" in run("restore", "it.backup", "--replace", "--yes").stdout
    again = run_json("restore", "it.backup", "--replace", "--yes")["possible_again"]
    assert again["enabled"] == {"names": [], "count": 0}, "by now they are"


def test_another_master_key_is_named_as_the_reason(run: Run, tmp_path: Path) -> None:
    run("backup", "it.backup")
    store = sqlite(tmp_path, "elsewhere")
    refused = run("restore", "it.backup", "--store", store, code=1, IDENTITY_MASTER_KEY=OTHER_KEY)
    assert "with which the backup was made" in refused.stderr
    assert not (tmp_path / "elsewhere.db").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-40],
        lambda data: data[:500] + (b"B" if data[500:501] == b"A" else b"A") + data[501:],
    ],
)
def test_a_spoiled_backup_touches_nothing(run: Run, tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    run("backup", "it.backup")
    file = tmp_path / "it.backup"
    file.write_bytes(spoil(file.read_bytes()))
    before = (tmp_path / "identity.db").read_bytes()
    refused = run("restore", "it.backup", "--replace", "--yes", "--json", code=1)
    assert "it.backup" in json.loads(refused.stdout)["error"]
    assert (tmp_path / "identity.db").read_bytes() == before


def test_a_migrated_store_names_its_target_from_then_on(run: Run, run_json: RunJson, tmp_path: Path) -> None:
    from_, to = sqlite(tmp_path, "identity"), sqlite(tmp_path, "new")
    moved = run_json("migrate", from_, to)

    assert (moved["from"], moved["to"], moved["clients"], moved["keys"]) == (from_, to, 2, 6)
    assert to in run("backup", "it.backup", code=4).stderr
    assert "new.db" in run("migrate", from_, sqlite(tmp_path, "other"), code=1).stderr
    assert "taken over" in run("migrate", from_, to, "--undo", code=1).stderr
    assert "earlier run" in run("migrate", from_, to).stderr
    assert {line["result"] for line in run_json("doctor", "--store", to)} == {"ok"}


def test_a_relative_path_is_the_same_store_from_another_folder(run: Run, tmp_path: Path) -> None:
    run("migrate", "sqlite:///identity.db", "sqlite:///new.db")
    assert "earlier run" in run("migrate", sqlite(tmp_path, "identity"), sqlite(tmp_path, "new")).stderr


def test_a_store_is_not_migrated_to_itself_or_over_another(run: Run, tmp_path: Path) -> None:
    assert (
        "same store" in run("migrate", "sqlite:///identity.db", sqlite(tmp_path, "identity"), code=1).stderr
    )
    run("init", "--store", sqlite(tmp_path, "new"))
    assert (
        "empty store" in run("migrate", sqlite(tmp_path, "identity"), sqlite(tmp_path, "new"), code=1).stderr
    )
    run("backup", "it.backup")


def test_nothing_is_copied_into_a_store_that_ends_with_the_command(run: Run, tmp_path: Path) -> None:
    from_, to = sqlite(tmp_path, "identity"), "sqlite:///:memory:"
    run("backup", "it.backup")
    for words in (("migrate", from_, to), ("restore", "it.backup", "--store", to)):
        assert "name a file" in run(*words, code=1).stderr
    run("backup", "other.backup", "--store", from_)


def test_a_password_of_redis_is_shown_nowhere(run: Run, tmp_path: Path) -> None:
    store = "redis://user:hunter2@127.0.0.1:1/0"
    run("backup", "it.backup")
    for words in (
        ("backup", "other.backup", "--store", store),
        ("restore", "it.backup", "--store", store),
        ("migrate", sqlite(tmp_path, "identity"), store),
        ("migrate", store, sqlite(tmp_path, "new")),
    ):
        assert "hunter2" not in run(*words, code=4).output


def test_undo_without_a_fence_changes_nothing(run_json: RunJson, tmp_path: Path) -> None:
    undone = run_json("migrate", sqlite(tmp_path, "identity"), sqlite(tmp_path, "new"), "--undo")
    assert undone["fence_lifted"] is False


def test_a_durability_of_redis_does_not_refuse_the_embedded_store(run: Run, tmp_path: Path) -> None:
    from_, to = sqlite(tmp_path, "identity"), sqlite(tmp_path, "new")
    run("migrate", from_, to, IDENTITY_DURABILITY="replicas:1", IDENTITY_STORE="redis://127.0.0.1:1/0")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_backup_that_is_stopped_leaves_no_file(run: Run, tmp_path: Path, number: signal.Signals) -> None:
    stopped = stopped_in_the_middle(tmp_path, number, "backup", "it.backup")
    assert "no backup was written" in stopped.stderr
    assert not list(tmp_path.glob("*.backup*"))
    assert not list(tmp_path.glob(".*.part"))


@pytest.fixture(params=["sqlite", "redis"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    if request.param == "sqlite":
        return sqlite(tmp_path, "new")
    server: RedisServer = request.getfixturevalue("redis_server")
    server.flush()
    return server.url


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_restore_that_is_stopped_leaves_the_store_empty(
    run: Run, tmp_path: Path, empty: str, number: signal.Signals
) -> None:
    run("backup", "it.backup")
    stopped = stopped_in_the_middle(
        tmp_path, number, "restore", "it.backup", "--store", empty, at=WHILE_WRITING
    )
    assert "run the same command again" in stopped.stderr
    run("init", "--store", empty)  # which a store that holds anything refuses


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_restore_over_a_store_that_is_stopped_is_run_again(
    run: Run, tmp_path: Path, empty: str, number: signal.Signals
) -> None:
    run("init", "--store", empty)
    run("backup", "it.backup")
    words = ("restore", "it.backup", "--store", empty, "--replace", "--yes")
    stopped_in_the_middle(tmp_path, number, *words, at=WHILE_WRITING)
    run(*words)
    run("doctor", "--store", empty)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_migration_that_is_stopped_lifts_the_fence(
    run: Run, tmp_path: Path, empty: str, number: signal.Signals
) -> None:
    from_, to = sqlite(tmp_path, "identity"), empty
    stopped = stopped_in_the_middle(tmp_path, number, "migrate", from_, to)
    assert number.name in stopped.stderr
    run("backup", "it.backup")  # which a store that is fenced refuses
    run("migrate", from_, to)


FIRST_ITEM = "copy_tally.Tally.add"
WHILE_WRITING = "restore._restored_event"
"""The function that writes the last item before the head of the log."""
_STOPPED = """
import os, sys
from identity_service.services import copy_tally, restore
from identity_service.cli.app import app
called = {at}
def stop(*words):
    os.kill(os.getpid(), {number})
    return called(*words)
{at} = stop
sys.argv = ["identity", *{words!r}]
app()
"""


def stopped_in_the_middle(
    folder: Path, number: signal.Signals, *words: str, at: str = FIRST_ITEM
) -> "subprocess.CompletedProcess[str]":
    """Run a command that gets a signal when it calls a function; by default when it writes the first item."""
    done = subprocess.run(
        [sys.executable, "-c", _STOPPED.format(number=int(number), words=words, at=at)],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    return done
