"""Tokens in a file that the processes of a program share."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from identity_client import AccessTokens, FileTokenStore, StoredTokens, TokenSet
from identity_client.token_state import INVALIDATIONS
from tests.clients.sources import LIFETIME, Clock, SignIns
from tests.patience import PATIENCE
from tests.rpc.world import API, PASSWORD, World


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def process(sign_ins: SignIns, clock: Clock, path: Path) -> AccessTokens:
    """Return a source as in another process of the program."""
    tokens = AccessTokens(sign_ins.connect, sign_ins, wait=PATIENCE, store=FileTokenStore(path))
    tokens._renewer._clock = clock
    return tokens


def stored(name: str = "secret-token") -> StoredTokens:
    now = datetime.now(UTC)
    tokens = TokenSet(
        access_token=name,
        token_type="Bearer",
        expire_time=now + timedelta(hours=1),
        refresh_token="secret-refresh",
        refresh_expire_time=None,
        audiences=("api",),
        scopes=("read", "write"),
        token_id="t1",
        session_id="s1",
    )
    return StoredTokens(tokens=tokens, save_time=now)


def test_saved_tokens_are_loaded_and_their_owner_alone_can_read_them(path: Path) -> None:
    store = FileTokenStore(path)
    assert store.load() is None

    for name in ("one", "two"):
        store.save(stored(name))
        loaded = store.load()
        assert loaded is not None
        assert loaded.tokens.access_token == name
        assert loaded.tokens.scopes == ("read", "write")
        assert path.stat().st_mode & 0o777 == 0o600

    assert "secret" not in repr(stored()) + repr(store)
    store.save(None)
    assert store.load() is None
    assert [each for each in path.parent.iterdir() if each.name.startswith(".")] == []


def test_a_file_that_others_can_read_is_refused(path: Path) -> None:
    FileTokenStore(path).save(stored())
    path.chmod(0o640)

    with pytest.raises(PermissionError, match=r"tokens\.json: must belong to the user"):
        FileTokenStore(path).load()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"save_time": "x"}', "\xff"])
def test_a_damaged_file_counts_as_absent(path: Path, content: str) -> None:
    FileTokenStore(path).save(stored())
    path.write_bytes(content.encode("latin-1"))

    assert FileTokenStore(path).load() is None


def test_a_write_that_fails_leaves_the_old_tokens(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileTokenStore(path)
    store.save(stored("one"))

    def fail(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        store.save(stored("two"))

    loaded = store.load()
    assert loaded is not None
    assert loaded.tokens.access_token == "one"
    assert list(path.parent.iterdir()) == [path]


def test_processes_that_need_a_token_at_the_same_time_request_one(
    sign_ins: SignIns, clock: Clock, path: Path
) -> None:
    processes = [process(sign_ins, clock, path) for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        got = set(pool.map(lambda tokens: tokens(PATIENCE), processes))

    assert (len(got), sign_ins.count) == (1, 1)


def test_a_renewal_by_one_process_is_used_by_the_others(sign_ins: SignIns, clock: Clock, path: Path) -> None:
    one, other = (process(sign_ins, clock, path) for _ in range(2))
    first = one()
    assert other() == first

    assert one.invalidate(first)
    second = one()
    assert other.invalidate(first)

    assert other() == second != first
    assert sign_ins.count == 2


def test_a_token_that_another_process_requested_before_does_not_count(
    sign_ins: SignIns, clock: Clock, path: Path
) -> None:
    """After a key was retired, the file may have another token that the retired key signed."""
    one, other = (process(sign_ins, clock, path) for _ in range(2))
    first = one()
    other()
    one.invalidate(first)
    second = one()

    assert other.invalidate(first)
    assert other() == second
    for _ in range(INVALIDATIONS):
        assert other.invalidate(other())
    assert other() not in (first, second)


def test_a_stored_token_near_its_end_is_renewed_instead(sign_ins: SignIns, clock: Clock, path: Path) -> None:
    one = process(sign_ins, clock, path)
    first = one()
    values = json.loads(path.read_text())
    values["save_time"] = (datetime.now(UTC) - timedelta(seconds=0.9 * LIFETIME)).isoformat()
    path.write_text(json.dumps(values))

    assert process(sign_ins, clock, path)() != first


def test_a_new_refresh_token_is_stored_before_the_call_gets_its_token(service: World, path: Path) -> None:
    service.new_user("ana")
    tokens = AccessTokens.by_password(
        "ana", PASSWORD, target=service.target, audience=API, store=FileTokenStore(path)
    )
    first = tokens()
    session = json.loads(path.read_text())
    assert session["access_token"] == first

    assert tokens.invalidate(first)
    second = tokens()
    renewed = json.loads(path.read_text())

    assert renewed["access_token"] == second
    assert renewed["session_id"] == session["session_id"]
    assert renewed["refresh_token"] != session["refresh_token"]


def test_closing_leaves_the_session_to_the_other_processes_and_logging_out_ends_it_for_all(
    service: World, path: Path
) -> None:
    service.new_user("ana")

    def start() -> AccessTokens:
        return AccessTokens.by_password(
            "ana", PASSWORD, target=service.target, audience=API, store=FileTokenStore(path)
        )

    with start() as tokens:
        token = tokens()
    assert service.reason(token) == ""

    start().logout()

    assert service.reason(token) == "REVOKED"
    assert not path.exists()


HOLDER = """
import sys
from identity_client import FileTokenStore
with FileTokenStore(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_while_another_process_holds_the_store_this_one_waits(path: Path) -> None:
    got = threading.Event()

    def hold() -> None:
        with FileTokenStore(path).locked():
            got.set()

    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        thread = threading.Thread(target=hold)
        thread.start()
        assert not got.wait(0.3)
        other.communicate()
        assert got.wait(PATIENCE)
        thread.join()
