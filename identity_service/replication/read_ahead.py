"""Reads the pages of a long log ahead of the thread that folds them: this halves the time of a start."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from identity_service.domain.change_log import ReadableLog
from identity_service.domain.log import LogEntry, LogPage

_READERS: Final = 2
_AHEAD: Final = 4
"""The number of pages requested ahead. It exceeds `_READERS`, so that no reader waits until the folding
thread asks for the next page."""


def read_ahead(log: ReadableLog, page: LogPage, size: int) -> Generator[LogPage, None, None]:
    """Yield this page, which has `size` entries, and the full pages after it, all with the head of the first.

    Positions have no gaps, so the start of each page is known before the previous page has arrived. Ends
    before the first page that is not full or lacks entries: that page has to be read together with a current
    head. Raises the errors of reading the log.
    """

    def ask(position: int) -> Future[tuple[LogEntry, ...]]:
        try:
            return readers.submit(log.read_entries, position, size)
        except RuntimeError:  # the system gives no further thread
            return _read_now(log, position, size)

    with ThreadPoolExecutor(_READERS, "identity-read-ahead") as readers:
        entries, end = page.entries, page.entries[-1].position
        ahead = deque(ask(end + n * size) for n in range(_AHEAD))
        try:
            while len(entries) == size and entries[-1].position == end:
                yield LogPage(entries=entries, head=page.head)
                end += size
                ahead.append(ask(end + (_AHEAD - 1) * size))
                entries = ahead.popleft().result()
        finally:
            for reading in ahead:
                reading.cancel()


def _read_now(log: ReadableLog, position: int, size: int) -> Future[tuple[LogEntry, ...]]:
    """Read a page in the thread that calls."""
    read: Future[tuple[LogEntry, ...]] = Future()
    try:
        read.set_result(log.read_entries(position, size))
    except Exception as error:  # noqa: BLE001  # it is raised when the page is taken
        read.set_exception(error)
    return read
