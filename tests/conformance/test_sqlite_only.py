"""Promises of the embedded store alone: its file, its schema, what it deletes, and the path `:memory:`."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from identity_service.domain.errors import (
    ConfigurationError,
    StoreUnavailableError,
    StoreUninitializedError,
    UnsafeStoreError,
)
from identity_service.domain.ids import PrincipalId, new_epoch, new_token_id
from identity_service.storage.sqlite import SqliteStore
from identity_service.storage.sqlite.log import read_entries
from identity_service.storage.sqlite.transactions import read_head
from tests.conformance.samples import (
    LATER,
    MUCH_LATER,
    MUTATIONS,
    READS,
    SOON,
    TIME,
    a_client,
    a_session,
    deny,
    entries_of,
)
from tests.fakes.clocks import FakeClock
from tests.patience import PATIENCE


@pytest.fixture
def memory_store() -> Iterator[SqliteStore]:
    store = SqliteStore.open(":memory:", clock=FakeClock())
    store.initialise(new_epoch())
    yield store
    store.close()


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()  # noqa: S608  # our tables
        return int(number)


# The file.


def test_the_files_are_readable_by_their_owner_only(file_store: SqliteStore, path: Path) -> None:
    deny(file_store)
    files = sorted(path.parent.glob("identity.db*"))
    assert path in files
    assert len(files) == 3
    assert [stat.S_IMODE(f.stat().st_mode) for f in files] == [0o600] * 3


def test_writes_go_through_a_write_ahead_log_that_is_synced(file_store: SqliteStore) -> None:
    with file_store._database.writing() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        full = 2
        assert connection.execute("PRAGMA synchronous").fetchone() == (full,)


def test_writes_are_there_after_reopening(path: Path) -> None:
    store = SqliteStore.open(str(path), clock=FakeClock())
    store.initialise(new_epoch())
    store.records.create(a_client())
    before = entries_of(store)
    store.close()
    again = SqliteStore.open(str(path), clock=FakeClock())
    assert entries_of(again) == before
    deny(again)
    assert again.log.head().position == 2
    again.close()


def test_a_schema_of_a_newer_version_is_refused(path: Path) -> None:
    SqliteStore.open(str(path), clock=FakeClock()).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1000")
    with pytest.raises(ConfigurationError, match="schema version 1000"):
        SqliteStore.open(str(path), clock=FakeClock())


def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="another program"):
        SqliteStore.open(str(path), clock=FakeClock())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    content = "dear diary\n" * 1000
    path.write_text(content)
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="not a database"):
        SqliteStore.open(str(path), clock=FakeClock())
    assert path.read_text() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("beside", ["", "-wal", "-shm"])
@pytest.mark.parametrize(
    ("make", "kind"), [(Path.mkdir, "a directory"), (os.mkfifo, "a named pipe")], ids=["directory", "pipe"]
)
def test_a_path_that_is_no_file_is_refused_and_left_alone(
    tmp_path: Path, path: Path, make: Callable[[Path], None], kind: str, beside: str
) -> None:
    """A symbolic link may point to the directory or pipe, whose permissions must not change."""
    target = tmp_path / "target"
    make(target)
    target.chmod(0o755)
    link = path.with_name(path.name + beside)
    link.symlink_to(target)

    with pytest.raises(ConfigurationError, match=f"{link} is {kind}"):
        SqliteStore.open(str(path), clock=FakeClock())

    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert sorted(path.parent.glob("identity.db*")) == [link]


@pytest.mark.parametrize("of", ["the file", "the log", "the folder"])
def test_files_of_another_user_are_refused_with_both_users(of: str, reachable: Path) -> None:
    """The error names both user ids, since a platform may start a pod with a new user id."""
    path = reachable / "store" / "identity.db"
    path.parent.mkdir()
    SqliteStore.open(str(path), clock=FakeClock()).close()
    wal = path.with_name(f"{path.name}-wal")
    wal.touch()
    wal.chmod(0o666)
    path.parent.chmod(0o755)
    path.chmod(0o666)
    closed = {"the file": path, "the log": wal, "the folder": path.parent}[of]
    closed.chmod(0o555 if of == "the folder" else 0o000)
    program = f"""
import os
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534)
from identity_service.storage.sqlite import SqliteStore
from tests.fakes.clocks import FakeClock
if os.geteuid() == 0:
    os.setuid(65534)
print(os.geteuid())
SqliteStore.open({str(path)!r}, clock=FakeClock())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    closed.chmod(0o755)

    said = done.stderr.splitlines()[-1]
    own = done.stdout.strip()
    assert f"{closed}: it belongs to uid {closed.stat().st_uid}, gid " in said
    assert f"this process runs as uid {own} with the groups " in said
    assert of == "the folder" or f"Run `chown {own} {path}*`" in said


def test_a_missing_directory_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"missing/identity\.db cannot be opened: .*must exist"):
        SqliteStore.open(str(tmp_path / "missing" / "identity.db"), clock=FakeClock())
    assert not (tmp_path / "missing").exists()


# The file under the process.


@pytest.mark.parametrize("how", ["moved away", "replaced by another store", "replaced by a copy"])
def test_a_file_that_was_replaced_is_found_by_the_next_call(
    file_store: SqliteStore, path: Path, how: str
) -> None:
    """If no call noticed it, the store would acknowledge writes to a file that no process reads again."""
    deny(file_store)
    match how:
        case "replaced by another store":
            path.rename(path.with_suffix(".old"))
            other = SqliteStore.open(str(path), clock=FakeClock())
            other.initialise(new_epoch())
            other.close()
        case "replaced by a copy":
            copy = path.with_suffix(".copy")
            copy.write_bytes(path.read_bytes())
            copy.replace(path)
        case _:
            path.rename(path.with_suffix(".old"))
    with pytest.raises(UnsafeStoreError, match=str(path)):
        file_store.log.heartbeat("process-1")
    for call in (*MUTATIONS.values(), *READS.values()):
        with pytest.raises(UnsafeStoreError, match=str(path)):
            call(file_store)


def test_a_lock_that_another_process_keeps_is_unavailable_and_changes_nothing(
    file_store: SqliteStore, path: Path
) -> None:
    impatient = SqliteStore.open(str(path), clock=FakeClock(), timeout=0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError):
            impatient.facts.deny_token(new_token_id(), LATER)
        assert impatient.log.head().position == 0
        other.execute("ROLLBACK")
    deny(impatient)
    impatient.close()
    assert file_store.log.head().position == 1


def test_a_full_disk_is_unavailable_and_leaves_the_log_whole(file_store: SqliteStore) -> None:
    deny(file_store)
    before = file_store.log.head()
    with file_store._database._writer.held() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
    fill = (a_client(f"client-{number}", display_name="x" * 5000) for number in range(1000))
    with pytest.raises(StoreUnavailableError):
        deque(map(file_store.records.create, fill), maxlen=0)
    room = 1_000_000
    with file_store._database._writer.held() as connection:
        connection.execute(f"PRAGMA max_page_count = {room}")
    created = file_store.log.head().position - before.position
    assert len(file_store.records.list_of(type(a_client()), limit=1000)) == created
    deny(file_store)
    assert [e.position for e in entries_of(file_store)] == list(range(1, created + 3))


def test_a_read_sees_one_snapshot_despite_concurrent_writes(file_store: SqliteStore) -> None:
    deny(file_store)
    with file_store._database.reading() as connection:
        before = read_head(connection, TIME)
        deny(file_store)
        entries = read_entries(connection, 0, 10)
        assert read_head(connection, TIME) == before
    assert len(entries) == 1
    assert file_store.log.head().position == 2


def test_an_error_of_this_program_is_not_reported_as_an_outage(file_store: SqliteStore) -> None:
    with pytest.raises(sqlite3.IntegrityError), file_store._database.writing() as connection:
        connection.execute("INSERT INTO log_head (one, epoch, position, link) VALUES (2, 'e', 0, '')")
    deny(file_store)


# Deleted records, and records that are never deleted.


def test_expired_rows_go_with_the_heartbeats_a_bounded_number_at_a_time(path: Path) -> None:
    clock = FakeClock()
    store = SqliteStore.open(str(path), clock=clock)
    store.initialise(new_epoch())
    for number in range(150):
        store.sessions.create(a_session(expire_time=SOON))
        store.facts.deny_token(new_token_id(), SOON)
        if number < 3:
            store.facts.raise_generation(PrincipalId("u_1"), above=0, request_id=f"request-{number}")
            store.facts.end_session(a_session().session_id, deny_until=SOON, end_until=LATER)
    clock.advance(LATER - clock.now())
    store.log.heartbeat("process-1")
    assert [count(path, t) for t in ("sessions", "denied", "requests", "ended")] == [150, 150, 3, 3]
    clock.advance(LATER - SOON + timedelta(days=1))
    store.log.heartbeat("process-1")
    assert [count(path, t) for t in ("sessions", "denied", "requests", "ended")] == [50, 50, 0, 0]
    store.log.heartbeat("process-1")
    assert [count(path, t) for t in ("sessions", "denied")] == [0, 0]
    assert [count(path, t) for t in ("log", "generations", "beats")] == [156, 1, 1]
    store.close()


def test_writes_alone_keep_the_denials_from_piling_up(path: Path) -> None:
    clock = FakeClock()
    store = SqliteStore.open(str(path), clock=clock)
    store.initialise(new_epoch())
    for _ in range(20):
        store.facts.deny_token(new_token_id(), SOON)
    clock.advance(LATER + timedelta(days=1) - clock.now())
    for _ in range(10):
        store.facts.deny_token(new_token_id(), MUCH_LATER)
    assert count(path, "denied") == 10
    store.close()


def test_consumed_keys_are_deleted_by_writes_and_by_heartbeats(path: Path) -> None:
    clock = FakeClock()
    with closing(SqliteStore.open(str(path), clock=clock)) as store:
        store.initialise(new_epoch())
        for number in range(20):
            store.single_use.consume(f"old-{number}", SOON)
        clock.advance(LATER + timedelta(days=1) - clock.now())
        for number in range(5):
            store.single_use.consume(f"new-{number}", MUCH_LATER)
        assert count(path, "used") == 20 - 2 * 5 + 5
        store.log.heartbeat("process-1")
        assert count(path, "used") == 5


# In memory.


def test_a_store_in_memory_is_private(memory_store: SqliteStore) -> None:
    deny(memory_store)
    other = SqliteStore.open(":memory:", clock=FakeClock())
    with pytest.raises(StoreUninitializedError):
        other.log.head()
    other.close()


def test_a_store_in_memory_serves_many_threads(memory_store: SqliteStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: deny(memory_store, 10), range(8)))
    assert [e.position for e in entries_of(memory_store)] == list(range(1, 81))


def test_a_wait_on_a_store_in_memory_wakes_for_its_writes(memory_store: SqliteStore) -> None:
    waiting = threading.Thread(target=memory_store.log.wait, args=(0, 2 * PATIENCE))
    waiting.start()
    deny(memory_store)
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


def test_a_wait_ends_in_time_while_others_commit_without_an_entry(memory_store: SqliteStore) -> None:
    """Heartbeats and new sessions are commits without an entry.

    They must not extend a wait beyond its timeout.
    """

    def look_while_somebody_heartbeats() -> bool:
        memory_store.log.heartbeat("process-1")
        return False

    begun = time.monotonic()
    memory_store._database.wait(look_while_somebody_heartbeats, 0.2)
    assert 0.15 <= time.monotonic() - begun < PATIENCE
