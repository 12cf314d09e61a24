"""Reading a long log ahead, if the system gives no thread for it."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from identity_service.domain.errors import StoreUnavailableError
from identity_service.replication.read_ahead import read_ahead

SIZE = 2


class Log:
    """Seven entries; those from the position `broken` on cannot be read."""

    def __init__(self, broken: int = 100) -> None:
        self._broken = broken

    def read_entries(self, after: int, limit: int) -> Any:
        if after >= self._broken:
            raise StoreUnavailableError("it is gone")
        return tuple(SimpleNamespace(position=n) for n in range(after + 1, min(after + limit, 7) + 1))


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def positions(log: Any) -> list[list[int]]:
    first: Any = SimpleNamespace(entries=log.read_entries(0, SIZE), head="head")
    return [[entry.position for entry in page.entries] for page in read_ahead(log, first, SIZE)]


def test_all_full_pages_are_read_by_the_thread_that_asks() -> None:
    assert positions(Log()) == [[1, 2], [3, 4], [5, 6]]


def test_an_error_of_the_store_is_raised() -> None:
    with pytest.raises(StoreUnavailableError):
        positions(Log(broken=4))
