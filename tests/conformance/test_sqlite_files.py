"""The files of the embedded store are removed, moved and overwritten while processes have them open."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from identity_service.domain.errors import ConfigurationError, StoreUnavailableError, UnsafeStoreError
from identity_service.domain.ids import TokenId, new_epoch
from identity_service.domain.log import TokenDenied
from identity_service.storage.sqlite import SqliteStore
from identity_service.storage.sqlite.connection import Connection
from tests.conformance.samples import LATER, MUTATIONS, READS, deny, entries_of
from tests.fakes.clocks import FakeClock
from tests.fakes.event_logs import RecordingEventLog

PROCESS = """
import os, sys
from datetime import UTC, datetime
from identity_service.adapters.clock import SystemClock
from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ids import TokenId
from identity_service.storage.sqlite import SqliteStore
from identity_service.storage.sqlite.connection import Connection

store = SqliteStore.open(sys.argv[1], clock=SystemClock())
print("open", flush=True)
for line in sys.stdin:
    word, _, name = line.strip().partition(" ")
    try:
        if word == "deny":
            store.facts.deny_token(TokenId(name), datetime(2100, 1, 2, tzinfo=UTC))
        elif word == "close":
            store.close()
        else:
            os._exit(0)
    except StoreUnavailableError as error:
        print(type(error).__name__, error, flush=True)
    else:
        print("ok", flush=True)
"""
"""The program of another process: it executes commands that it reads line by line, and prints their
results."""


class Process:
    """Another process that has the store open, and executes the commands of the test."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._answer() == "open"

    def say(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """End the process at once, as SIGKILL does, without closing anything."""
        if self._process.poll() is None:
            with suppress(OSError):
                self.say("exit")
        self._process.communicate(timeout=60)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture
def file_store(path: Path, event_log: RecordingEventLog) -> Iterator[SqliteStore]:
    store = SqliteStore.open(str(path), clock=FakeClock(), event_log=event_log)
    store.initialise(new_epoch())
    yield store
    store.close()


@pytest.fixture
def process(file_store: SqliteStore, path: Path) -> Iterator[Callable[[], Process]]:
    """A function that starts another process which has the store open."""
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(path))
        return started[-1]

    yield start
    for one in started:
        one.end()


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def remove_log(path: Path, *endings: str) -> None:
    for ending in endings or ("-wal", "-shm"):
        beside(path, ending).unlink()


def write_log_into_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def denied_in(path: Path) -> set[str]:
    """Return the denied ids that a newly started process finds in the file."""
    with closing(SqliteStore.open(str(path), clock=FakeClock())) as store:
        return {e.change.token_id for e in entries_of(store) if isinstance(e.change, TokenDenied)}


def revoke(store: SqliteStore, name: str) -> None:
    store.facts.deny_token(TokenId(name), datetime(2100, 1, 2, tzinfo=UTC))


@pytest.mark.parametrize("endings", [("-wal", "-shm"), ("-wal",), ("-shm",)])
def test_a_log_that_was_removed_is_saved_before_the_next_write_is_acknowledged(
    file_store: SqliteStore, path: Path, event_log: RecordingEventLog, endings: tuple[str, ...]
) -> None:
    revoke(file_store, "before")
    remove_log(path, *endings)

    revoke(file_store, "after")

    assert denied_in(path) == {"before", "after"}
    assert event_log.events == [("store_reopened", {"file": str(path), "kept": True})]


def test_a_log_that_is_removed_within_a_write_is_saved_before_that_is_acknowledged(
    file_store: SqliteStore, path: Path
) -> None:
    revoke(file_store, "before")

    with file_store._database.writing() as connection:
        remove_log(path)
        connection.execute("INSERT INTO used (id, expire_time) VALUES ('this', 1)")

    assert beside(path, "-wal").exists()
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM used").fetchone() == (1,)
    assert denied_in(path) == {"before"}


def test_a_log_that_was_removed_is_saved_by_reads_by_heartbeats_and_when_the_store_is_closed(
    path: Path, event_log: RecordingEventLog
) -> None:
    for number, step in enumerate(
        (lambda s: s.log.head(), lambda s: s.log.heartbeat("p"), SqliteStore.close)
    ):
        store = SqliteStore.open(str(path), clock=FakeClock(), event_log=event_log)
        if not number:
            store.initialise(new_epoch())
        store.log.adopt(store.log.head().epoch)
        revoke(store, f"t{number}")
        remove_log(path)
        step(store)
        store.close()

        assert denied_in(path) == {f"t{n}" for n in range(number + 1)}


def test_a_log_that_is_removed_just_before_the_content_is_checked_is_no_damage(
    file_store: SqliteStore, path: Path, event_log: RecordingEventLog
) -> None:
    revoke(file_store, "before")
    guard = file_store._database._guard
    assert guard is not None
    os.utime(path)  # so that the content is checked
    remove_log(path, "-wal")

    assert not guard._content.finds_damage()

    assert not beside(path, "-wal").exists()
    revoke(file_store, "after")
    assert denied_in(path) == {"before", "after"}
    assert event_log.names == ["store_reopened"]


def test_a_page_that_was_written_over_is_found_although_the_process_has_it_in_memory(
    file_store: SqliteStore, path: Path
) -> None:
    revoke(file_store, "before")
    write_log_into_file(path)
    guard = file_store._database._guard
    assert guard is not None
    assert guard._content._is_whole()  # reads every page

    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"x" * (path.stat().st_size - 4096))

    assert guard._content.finds_damage()


def test_files_that_cannot_be_opened_again_are_unavailable_until_they_can(
    file_store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoke(file_store, "before")
    remove_log(path)

    def fails(_: Connection) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as broken:
        broken.setattr(Connection, "reconnect", fails)
        for call in (*MUTATIONS.values(), *READS.values()):
            with pytest.raises(StoreUnavailableError):
                call(file_store)
        with pytest.raises(StoreUnavailableError):
            file_store.log.wait(0, 0.01)
        with (
            pytest.raises(StoreUnavailableError, match="opened again"),
            file_store._database._translated("read"),
            file_store._database._reader.transaction("BEGIN"),
        ):
            pass

    revoke(file_store, "after")
    assert denied_in(path) == {"before", "after"}


def test_a_removal_after_another_is_met_as_well(file_store: SqliteStore, path: Path) -> None:
    """The file system reuses inode numbers, so a new file may have the number of a removed one."""
    names = {f"t{number}" for number in range(20)}
    for name in sorted(names):
        remove_log(path)
        revoke(file_store, name)

    assert denied_in(path) == names


def test_processes_that_had_the_same_log_lose_nothing_that_they_acknowledged(
    file_store: SqliteStore, path: Path, process: Callable[[], Process], event_log: RecordingEventLog
) -> None:
    """The first process to notice the removal saves the log; the others switch to the saved one."""
    others = [process(), process()]
    assert [other.say(f"deny before-{n}") for n, other in enumerate(others)] == ["ok", "ok"]
    remove_log(path)

    assert others[0].say("deny first") == "ok"
    revoke(file_store, "second")
    assert others[1].say("deny third") == "ok"

    expected = {"before-0", "before-1", "first", "second", "third"}
    assert {
        e.change.token_id for e in entries_of(file_store) if isinstance(e.change, TokenDenied)
    } == expected
    assert denied_in(path) == expected
    assert event_log.events == [("store_reopened", {"file": str(path), "kept": False})]


def test_a_commit_to_a_log_that_another_process_has_saved_is_not_acknowledged(
    file_store: SqliteStore, path: Path, process: Callable[[], Process]
) -> None:
    """No file contains this commit any more, so the caller gets an error, and sends the write again."""
    other = process()
    revoke(file_store, "before")

    def write_while_another_saves() -> None:
        with file_store._database.writing() as connection:
            connection.execute("COMMIT")
            remove_log(path)
            assert other.say("deny first") == "ok"
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO used (id, expire_time) VALUES ('lost', 1)")

    with pytest.raises(StoreUnavailableError, match="try again"):
        write_while_another_saves()

    revoke(file_store, "again")
    with file_store._database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM used").fetchone() == (0,)
    assert denied_in(path) == {"before", "first", "again"}


def test_a_process_that_began_another_log_is_noticed_and_nothing_is_acknowledged_beside_it(
    file_store: SqliteStore, path: Path, process: Callable[[], Process], event_log: RecordingEventLog
) -> None:
    """With two logs, each process would acknowledge writes that the other process never reads."""
    write_log_into_file(path)  # so that the other one finds a store
    revoke(file_store, "mine")
    remove_log(path)
    newcomer = process()
    assert newcomer.say("deny theirs") == "ok"

    for _ in range(2):
        with pytest.raises(UnsafeStoreError, match="another process has begun another"):
            revoke(file_store, "split")
    with pytest.raises(UnsafeStoreError, match=str(path)):
        file_store.log.heartbeat("p")

    assert event_log.names == ["store_refused"]
    assert newcomer.say("deny theirs-too") == "ok"
    (copy,) = path.parent.glob("*.rescued-*")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert denied_in(copy) == {"mine"}


def test_closing_leaves_the_new_log_of_another_process_alone(
    file_store: SqliteStore, path: Path, process: Callable[[], Process]
) -> None:
    """SQLite would write the removed log into the file, and delete the new log, which has its name."""
    deny(file_store)
    write_log_into_file(path)
    remove_log(path)
    newcomer = process()
    assert newcomer.say("deny theirs") == "ok"
    newcomer.end()

    file_store.close()

    assert "theirs" in denied_in(path)


def test_a_file_that_is_moved_back_is_used_again(
    file_store: SqliteStore, path: Path, event_log: RecordingEventLog
) -> None:
    deny(file_store)
    away = path.with_suffix(".away")
    path.rename(away)
    with pytest.raises(UnsafeStoreError, match="move it back"):
        deny(file_store)

    away.rename(path)

    deny(file_store)
    assert file_store.log.head().position == 2
    assert event_log.names == ["store_refused", "store_mended"]


def test_a_file_that_is_no_database_any_more_is_named_by_every_call_from_then_on(
    file_store: SqliteStore, path: Path, event_log: RecordingEventLog
) -> None:
    deny(file_store, 50)
    with file_store._database._writer.held() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(b"no database" * 1000)

    with pytest.raises(UnsafeStoreError, match=str(path)):
        file_store._database.wait(lambda: False, 0.01)
    with pytest.raises(UnsafeStoreError, match="put a backup in its place"):
        file_store.facts.deny_token(TokenId("t"), LATER)
    assert event_log.names == ["store_refused"]


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o666, 0o604])
def test_files_that_other_users_may_read_or_write_are_restricted_to_their_owner(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "identity.db"
    SqliteStore.open(str(path), clock=FakeClock()).close()
    beside = [path, *(path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm"))]
    for name in beside:
        name.touch()
        name.chmod(mode)

    store = SqliteStore.open(str(path), clock=FakeClock())

    assert [stat.S_IMODE(name.stat().st_mode) for name in beside] == [0o600] * 3
    store.close()


@pytest.mark.parametrize(("mode", "refused"), [(0o660, False), (0o644, True), (0o606, True)])
def test_files_that_only_another_owner_can_restrict_are_refused_unless_only_the_group_may_use_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, refused: bool
) -> None:
    """On some platforms a pod gets a new user id at each start; the group of its volume stays the same."""

    def chmod(*_: object, **__: object) -> None:
        raise PermissionError

    path = tmp_path / "identity.db"
    SqliteStore.open(str(path), clock=FakeClock()).close()
    path.chmod(mode)
    monkeypatch.setattr(Path, "chmod", chmod)
    if not refused:
        SqliteStore.open(str(path), clock=FakeClock()).close()
        return
    with pytest.raises(ConfigurationError, match=f"chmod o= {path}"):
        SqliteStore.open(str(path), clock=FakeClock())
