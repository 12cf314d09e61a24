"""The pages of a long log, asked for while those before are folded: half the time of a start."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from identity_service.domain.log import LogEntry, LogPage
from identity_service.domain.store import ChangeLog

_READERS: Final = 2
_AHEAD: Final = 4
"""More than readers, so that none waits for the thread that folds until it asks for the next page."""


def read_ahead(log: ChangeLog, page: LogPage, size: int) -> Generator[LogPage, None, None]:
    """That page, which has `size` entries, and those after it, all with its head.

    Positions follow each other, so where a page will begin is known before the one before it has come. The
    first that is not full, or in which entries are missing, is not given: only the head of that moment
    says what it means. Raises what reading raises.
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


def _read_now(log: ChangeLog, position: int, size: int) -> Future[tuple[LogEntry, ...]]:
    """Read a page in the thread that calls."""
    read: Future[tuple[LogEntry, ...]] = Future()
    try:
        read.set_result(log.read_entries(position, size))
    except Exception as error:  # noqa: BLE001  # it is raised when the page is taken
        read.set_exception(error)
    return read
