"""A process that waits for entries in an SQLite file stays idle until another process appends an entry."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from identity_service.storage.sqlite import SqliteStore, appends
from identity_service.storage.sqlite.appends import Appends
from tests.conformance.samples import a_session, deny
from tests.fakes.clocks import FakeClock
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE, until


class Look:
    """A condition to wait for, which counts its evaluations. It is true once `holds` is set."""

    def __init__(self) -> None:
        self.count = 0
        self.holds = False

    def __call__(self) -> bool:
        self.count += 1
        return self.holds


def waiting(store: SqliteStore, look: Look, timeout: float = 2 * PATIENCE) -> threading.Thread:
    """Start a thread that waits for the condition; return once the thread has evaluated it."""
    thread = threading.Thread(target=store._database.wait, args=(look, timeout), daemon=True)
    before = look.count
    thread.start()
    until(lambda: look.count > before)
    return thread


@pytest.fixture
def other(path: Path, file_store: SqliteStore) -> SqliteStore:
    """A second store instance on the same file, as another process would have."""
    assert file_store.log.head().position == 0
    other = SqliteStore.open(str(path), clock=FakeClock())
    appended = file_store._database._appends
    appended.wait(appended.count, PATIENCE)  # the notice by which the other has tried whether it may notify
    return other


def test_a_waiting_process_looks_once_while_others_append_nothing(
    file_store: SqliteStore, other: SqliteStore
) -> None:
    """Commits that append no entry, such as heartbeats and sessions, do not wake the process."""
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


@pytest.mark.parametrize(
    ("part", "code", "what", "fix"),
    [
        ("_FileWatch", errno.EMFILE, "inotify cannot be used: Too many open files", "sysctl"),
        ("_FileWatch", errno.ENOSPC, "inotify cannot be used: No space left on device", "sysctl"),
        (
            "_OpenFile.notify",
            errno.EPERM,
            "the mode of {path} cannot be set: Operation not permitted",
            "owns",
        ),
    ],
    ids=["too many instances", "too many watches", "the file of another user"],
)
def test_without_notices_of_the_kernel_a_process_polls_and_says_why_once(
    path: Path,
    file_store: SqliteStore,
    part: str,
    code: int,
    what: str,
    fix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(f"{appends.__name__}.{part}", refused)
    event_log, look = RecordingEventLog(), Look()
    polling = SqliteStore.open(str(path), clock=FakeClock(), event_log=event_log)
    thread = waiting(polling, look)
    until(lambda: look.count > 2)
    look.holds = True
    thread.join(PATIENCE)
    assert not thread.is_alive()
    ((event, fields),) = event_log.events
    assert (event, fields["what"]) == ("store_polled", what.format(path=path))
    assert fix in fields["fix"]
    polling.close()


def test_a_process_on_a_system_without_inotify_polls_and_says_so(
    path: Path, file_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert file_store.log.head().position == 0
    monkeypatch.delattr(os, "O_PATH")
    event_log, look = RecordingEventLog(), Look()
    polling = SqliteStore.open(str(path), clock=FakeClock(), event_log=event_log)
    thread = waiting(polling, look)
    deny(polling)
    until(lambda: look.count > 2)
    assert event_log.named("store_polled")[0]["what"] == "this system has no inotify"
    polling.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_process_that_is_notified_by_the_kernel_logs_nothing(path: Path, file_store: SqliteStore) -> None:
    assert file_store.log.head().position == 0
    event_log = RecordingEventLog()
    SqliteStore.open(str(path), clock=FakeClock(), event_log=event_log).close()
    assert event_log.events == []


def test_a_notice_leaves_a_file_alone_that_was_put_in_the_place_of_the_open_one(
    path: Path, file_store: SqliteStore
) -> None:
    """The file in that place may be a symbolic link to a file which only this process may open."""
    assert file_store.log.head().position == 0
    secret = path.with_name("secret")
    secret.touch(mode=0o600)
    before = secret.stat().st_ctime_ns
    path.rename(path.with_name("elsewhere.db"))
    path.symlink_to(secret)

    file_store._database.announce()

    assert secret.stat().st_ctime_ns == before


def test_a_watch_keeps_no_descriptor_once_it_is_closed(path: Path, file_store: SqliteStore) -> None:
    assert file_store.log.head().position == 0
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        closed = Appends()
        closed.watch(path)
        closed.announce()
        closed.close()
        closed.announce()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


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


def test_appends_that_are_closed_wait_no_more(path: Path, file_store: SqliteStore) -> None:
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
