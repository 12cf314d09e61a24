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
    """That page, which has `size` entries, and those after it, all with its head.

    Positions follow each other, so where a page will begin is known before the one before it has come. The
    first that is not full, or in which entries are missing, is not given: only the head of that moment
    says what it means. Raises what reading raises.
    """
    with ThreadPoolExecutor(_READERS, "identity-read-ahead") as readers:
        entries, end = page.entries, page.entries[-1].position
        ahead = deque(readers.submit(log.read_entries, end + n * size, size) for n in range(_AHEAD))
        try:
            while len(entries) == size and entries[-1].position == end:
                yield LogPage(entries=entries, head=page.head)
                end += size
                ahead.append(readers.submit(log.read_entries, end + (_AHEAD - 1) * size, size))
                entries = ahead.popleft().result()
        finally:
            for reading in ahead:
                reading.cancel()
