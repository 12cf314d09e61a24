"""A process that waits for entries in an SQLite file does nothing until another process appends one."""

import threading
import time
from pathlib import Path

import pytest

from identity_service.storage.sqlite import SqliteStore, appends
from identity_service.storage.sqlite.appends import Appends
from tests.conformance.samples import a_session, deny
from tests.fakes.clocks import FakeClock
from tests.patience import PATIENCE, until


class Look:
    """A condition that notes how often it was asked; it holds once `holds` is set."""

    def __init__(self) -> None:
        self.count = 0
        self.holds = False

    def __call__(self) -> bool:
        self.count += 1
        return self.holds


def waiting(store: SqliteStore, look: Look, timeout: float = 2 * PATIENCE) -> threading.Thread:
    """Return a thread that waits, and has looked."""
    thread = threading.Thread(target=store._database.wait, args=(look, timeout), daemon=True)
    before = look.count
    thread.start()
    until(lambda: look.count > before)
    return thread


@pytest.fixture
def other(path: Path, file_store: SqliteStore) -> SqliteStore:
    """Another instance on the same file, as another process has it."""
    assert file_store.log.head().position == 0
    return SqliteStore.open(str(path), clock=FakeClock())


def test_a_waiting_process_looks_once_while_others_append_nothing(
    file_store: SqliteStore, other: SqliteStore
) -> None:
    """Not even for commits without entries: heartbeats and sessions."""
    look = Look()
    thread = waiting(file_store, look, timeout=1.0)
    other.log.adopt(other.log.heartbeat("other").epoch)
    other.sessions.create(a_session())
    thread.join()
    assert look.count == 1


def test_a_waiting_process_looks_again_after_each_append_of_another(
    file_store: SqliteStore, other: SqliteStore
) -> None:
    look = Look()
    thread = waiting(file_store, look)
    for _ in range(3):
        before = look.count
        deny(other)
        until(lambda before=before: look.count > before)  # type: ignore[misc]
    look.holds = True
    deny(other)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_thread_goes_on_waiting_for_other_processes_when_the_one_that_was_notified_leaves(
    file_store: SqliteStore, other: SqliteStore
) -> None:
    first, second = Look(), Look()
    leaving = waiting(file_store, first)
    staying = waiting(file_store, second)
    first.holds = True
    deny(other)
    leaving.join(PATIENCE)
    second.holds = True
    deny(other)
    staying.join(PATIENCE)
    assert [thread.is_alive() for thread in (leaving, staying)] == [False, False]


def test_without_notices_of_the_kernel_a_process_polls(
    path: Path, file_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> None:
        raise OSError("too many watches")

    monkeypatch.setattr(appends, "_FileWatch", refused)
    polling, look = SqliteStore.open(str(path), clock=FakeClock()), Look()
    thread = waiting(polling, look)
    until(lambda: look.count > 2)
    look.holds = True
    thread.join(PATIENCE)
    assert not thread.is_alive()
    polling.close()


def test_a_file_that_was_moved_away_and_back_is_still_watched(
    path: Path, file_store: SqliteStore, other: SqliteStore
) -> None:
    look = Look()
    thread = waiting(file_store, look)
    moved = path.rename(path.with_name("elsewhere.db"))
    moved.rename(path)
    before, look.holds = look.count, True
    deny(other)
    thread.join(PATIENCE)
    assert look.count > before


def test_what_is_closed_waits_no_more(path: Path, file_store: SqliteStore) -> None:
    assert file_store.log.head().position == 0
    closed = Appends()
    closed.watch(path)
    closed.close()
    closed.close()
    begun = time.monotonic()
    closed.wait(closed.count, PATIENCE)
    assert time.monotonic() - begun < PATIENCE / 2


def test_a_notice_leaves_the_times_of_the_file_so_that_its_content_is_not_checked(
    path: Path, file_store: SqliteStore
) -> None:
    deny(file_store)
    before = path.stat().st_mtime_ns

    deny(file_store)

    assert path.stat().st_mtime_ns == before
