"""Reads one change log to its end, in order, and notices when it is not the log that was read before.

Owns the place that was reached. Knows nothing of what the entries mean. One thread at a time.
"""

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

from identity_service.domain.errors import (
    StoreReplacedError,
    StoreUnavailableError,
    StoreUninitializedError,
)
from identity_service.domain.ids import NO_LINK, Epoch, Link, new_epoch
from identity_service.domain.log import Head, LogPage, Revision
from identity_service.domain.ports import EventLog
from identity_service.domain.store import ChangeLog
from identity_service.replication.read_ahead import read_ahead

_PAGE: Final = 1000
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last entry that was read."""

    epoch: Epoch
    position: int
    link: Link

    @property
    def revision(self) -> Revision:
        return Revision(epoch=self.epoch, position=self.position, link=self.link)

    def is_at(self, head: Head) -> bool:
        return (self.epoch, self.position, self.link) == (head.epoch, head.position, head.link)


class LogReader:
    """Follows one log; where it was replaced, the one that is there now, from its start."""

    def __init__(
        self,
        log: ChangeLog,
        event_log: EventLog,
        *,
        begin: Callable[[Head], None],
        fold: Callable[[LogPage, Cursor], None],
    ) -> None:
        """
        Args:
            begin: called before a log is read from its start.
            fold: takes a page that follows the last one, and the place up to which all is read with it.
        """
        self._log = log
        self._event_log = event_log
        self._begin = begin
        self._fold = fold
        self._from_start = True
        self._read_before = False
        self._announced: Epoch | None = None
        """The epoch of the log that was said to have replaced the one before."""
        self._may_have_lost = False
        """Whether the log was replaced since an end was last reached; a read may fail in between."""
        self.cursor = Cursor(Epoch(""), 0, NO_LINK)

    def start_over(self) -> Head:
        """Read the log that is there now from its start, next time. Raises StoreUnavailableError."""
        head = self._log.head()
        self._begin(head)  # first: where it fails, this log is found replaced again
        self._log.adopt(head.epoch)
        self._from_start = True
        self.cursor = Cursor(head.epoch, 0, NO_LINK)
        return head

    def start_complete(self) -> None:
        """The same, and complete the log before if it holds less than its store knows.

        Raises StoreUnavailableError, StoreDamagedError: nothing may be answered from what is there.
        """
        for _ in range(_ATTEMPTS):
            head = self.start_over()
            if not head.whole:
                self.renew(head)
                continue
            if head.complete:
                return
            with contextlib.suppress(StoreReplacedError):
                self._event_log.record("log_rebuilt", facts=self._log.rebuild())
                return
        raise StoreUnavailableError("entries vanish from the change log again and again while it is rebuilt")

    def read_to_end(self) -> bool:
        """Read to an end that the log had after this call began; returns whether it was replaced.

        Raises StoreUnavailableError; StoreUninitializedError where a log was never read.
        """
        for _ in range(_ATTEMPTS):
            page = self._read_on()
            goal = page.head.position
            with contextlib.closing(self._pages_from(page)) as pages:
                for page in pages:
                    if not self._take(page):
                        break
                    if self.cursor.position >= goal:
                        replaced, self._may_have_lost = self._may_have_lost, False
                        self._from_start, self._read_before = False, True
                        return replaced
            self._take_over(page.head)
        raise StoreUnavailableError("the change log is replaced again and again while it is read")

    def renew(self, found: Head | None) -> None:
        """Give the log a new epoch, unless somebody else was first: then all start over and repair it."""
        holds = self._log.renew(found.epoch if found is not None else None, new_epoch())
        self._event_log.record("epoch_renewed", epoch=holds)

    def _read_on(self) -> LogPage:
        try:
            return self._log.read(self.cursor.position, _PAGE)
        except StoreUninitializedError:
            if not self._read_before:
                raise  # only `identity init` makes a store
            self.renew(None)
            return self._log.read(self.cursor.position, _PAGE)

    def _pages_from(self, page: LogPage) -> Generator[LogPage, None, None]:
        """That page and those after it; each begins where the last one ended that was taken."""
        while True:
            if len(page.entries) == _PAGE:
                yield from read_ahead(self._log, page, _PAGE)
            else:
                yield page
            page = self._log.read(self.cursor.position, _PAGE)

    def _take_over(self, found: Head) -> None:
        """Start over in the log that is there now."""
        cursor = self.cursor
        same = found.epoch == cursor.epoch
        if same and not self._from_start and cursor.position < found.floor:
            self._event_log.record("log_trimmed_meanwhile", known=str(cursor.revision), floor=found.floor)
            self.start_over()
            return
        if found.epoch != self._announced or same:  # reading it may fail again and again: it is said once
            self._announced = found.epoch
            self._event_log.record("log_replaced", known=str(cursor.revision), found=str(found.revision))
        if same:
            self.renew(found)
        self.start_over()
        self._may_have_lost = self._read_before

    def _take(self, page: LogPage) -> bool:
        """Fold a page, whole or not at all; False = it does not follow what was read before."""
        cursor, head = self.cursor, page.head
        if head.epoch != cursor.epoch or head.position < cursor.position:
            return False
        position, link = cursor.position, cursor.link
        for entry in page.entries:
            chained = entry.position == position + 1 and entry.previous_link == link
            if not (chained or self._may_skip(position, entry.position, head.floor)):
                return False
            position, link = entry.position, entry.link
        cursor = Cursor(cursor.epoch, position, link)
        if not page.entries:
            if self._from_start and cursor.position < head.floor == head.position:
                cursor = Cursor(cursor.epoch, head.position, head.link)  # nothing is left of the log
            if not cursor.is_at(head):
                return False
        self._fold(page, cursor)  # before the cursor: who fails to fold gets the page again
        self.cursor = cursor
        return True

    def _may_skip(self, position: int, found: int, floor: int) -> bool:
        """Whether the entry found after this position may stand there without a chain to it."""
        # Up to the floor entries may be missing: who reads from the start has taken the table of
        # generations before, and every denial that still counts is put back by those who know it.
        return self._from_start and position < floor and position < found <= floor + 1
