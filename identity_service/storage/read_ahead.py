"""The pages of a long log, asked for while those before are folded: half the time of a start."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from identity_service.domain.log import LogPage
from identity_service.domain.store import ChangeLog

_READERS: Final = 2
_AHEAD: Final = 4
"""More than readers, so that none waits for the thread that folds until it asks for the next page."""


def read_ahead(log: ChangeLog, page: LogPage, size: int) -> Generator[LogPage, None, None]:
    """That page, which has `size` entries, and those after it, as long as they have as many.

    Positions follow each other, so where a page will begin is known before the one before it has come; the
    first that begins elsewhere (entries are missing there) is not given. Nor is one that is not full: the log
    may have been longer by the time that the page before it was read. Raises what reading raises.
    """
    with ThreadPoolExecutor(_READERS, "identity-read-ahead") as readers:
        end = page.entries[-1].position
        ahead = deque(readers.submit(log.read, end + n * size, size) for n in range(_AHEAD))
        try:
            while len(page.entries) == size and page.entries[-1].position == end:
                yield page
                end += size
                ahead.append(readers.submit(log.read, end + (_AHEAD - 1) * size, size))
                page = ahead.popleft().result()
        finally:
            for reading in ahead:
                reading.cancel()
