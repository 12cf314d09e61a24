"""The embedded store in several processes: they share a file, wake each other, and may be killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from identity_service.domain.errors import StoreUninitializedError
from identity_service.domain.ids import NO_LINK
from identity_service.domain.log import TokenDenied
from identity_service.storage.sqlite import SqliteStore
from tests.conformance.samples import deny, entries_of
from tests.fakes.clocks import FakeClock
from tests.patience import PATIENCE

WRITER = """
import sys
from datetime import UTC, datetime
from identity_service.adapters.clock import SystemClock
from identity_service.domain.ids import new_token_id
from identity_service.storage.sqlite import SqliteStore

store = SqliteStore.open(sys.argv[1], clock=SystemClock())
for _ in range(int(sys.argv[2])):
    token_id = new_token_id()
    store.facts.deny_token(token_id, datetime(2100, 1, 2, tzinfo=UTC))
    print(token_id, flush=True)
store.close()
"""
"""The program of another process: it denies ids one by one, and prints each after the store acknowledged
it."""

OPENER = """
import sys
from identity_service.adapters.clock import SystemClock
from identity_service.storage.sqlite import SqliteStore

sys.stdin.readline()
SqliteStore.open(sys.argv[1], clock=SystemClock()).close()
"""


def start(program: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_processes_write_to_one_log_at_the_same_time(file_store: SqliteStore, path: Path) -> None:
    each = 40
    writers = [start(WRITER, str(path), str(each)) for _ in range(2)]
    mine = deny(file_store, each)
    printed: list[str] = []
    for writer in writers:
        output, _ = writer.communicate(timeout=PATIENCE)
        assert writer.returncode == 0
        printed += output.split()
    entries = entries_of(file_store)
    assert [e.position for e in entries] == list(range(1, 3 * each + 1))
    assert [e.previous_link for e in entries] == [NO_LINK, *(e.link for e in entries[:-1])]
    denied = [e.change.token_id for e in entries if isinstance(e.change, TokenDenied)]
    assert sorted(denied) == sorted([*printed, *mine])


def test_a_write_of_another_process_wakes_a_wait(file_store: SqliteStore, path: Path) -> None:
    writer = start(WRITER, str(path), "1")
    begun = time.monotonic()
    file_store.log.wait(0, 2 * PATIENCE)
    assert time.monotonic() - begun < 1.9 * PATIENCE
    assert file_store.log.head().position == 1
    writer.communicate(timeout=PATIENCE)


def test_many_processes_may_make_the_file_at_once(path: Path) -> None:
    openers = [start(OPENER, str(path)) for _ in range(4)]
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    for opener in openers:
        opener.communicate(timeout=PATIENCE)
        assert opener.returncode == 0
    store = SqliteStore.open(str(path), clock=FakeClock())
    with pytest.raises(StoreUninitializedError):
        store.log.head()
    store.close()


def test_acknowledged_writes_survive_a_kill_of_the_writer(file_store: SqliteStore, path: Path) -> None:
    """After each of three kills, the log has every acknowledged denial, and its chain of links is intact."""
    acknowledged: set[str] = set()
    for _ in range(3):
        writer = start(WRITER, str(path), "1000000")
        assert writer.stdout is not None
        acknowledged |= {writer.stdout.readline().strip() for _ in range(20)}
        os.kill(writer.pid, signal.SIGKILL)
        rest, _ = writer.communicate(timeout=PATIENCE)
        acknowledged |= {line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n")}
        deny(file_store)
    entries = entries_of(file_store)
    denied = {e.change.token_id for e in entries if isinstance(e.change, TokenDenied)}
    assert len(acknowledged) >= 60
    assert acknowledged <= denied
    assert [e.position for e in entries] == list(range(1, len(entries) + 1))
    assert [e.previous_link for e in entries] == [NO_LINK, *(e.link for e in entries[:-1])]
