"""Reading the pages of a long log in advance, when the system gives no thread for it."""

import threading

import pytest

from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.log import RecordChanged, RecordKind
from identity_service.replication.read_ahead import read_ahead
from tests.fakes.change_logs import MemoryChangeLog
from tests.fakes.clocks import FakeClock

SIZE = 2


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.fixture
def log() -> MemoryChangeLog:
    log = MemoryChangeLog(FakeClock())
    for number in range(7):
        log.append(RecordChanged(kind=RecordKind.CLIENT, id=str(number)))
    return log


def positions(log: MemoryChangeLog) -> list[list[int]]:
    first = log.read(0, SIZE)
    return [[entry.position for entry in page.entries] for page in read_ahead(log, first, SIZE)]


def test_all_full_pages_are_read_by_the_thread_that_asks(log: MemoryChangeLog) -> None:
    assert positions(log) == [[1, 2], [3, 4], [5, 6]]


def test_an_error_of_the_store_is_raised(log: MemoryChangeLog) -> None:
    def before_read(after: int) -> None:
        if after >= 4:
            raise StoreUnavailableError("it is gone")

    log.before_read = before_read
    with pytest.raises(StoreUnavailableError):
        positions(log)
