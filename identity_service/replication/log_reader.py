"""Reads one change log to its end, in order, and notices if it is not the log that was read before.

The module owns the cursor, and does not interpret the entries. One thread at a time uses a reader.
"""

import contextlib
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Final

from identity_service.domain.change_log import ChangeLog
from identity_service.domain.errors import StoreReplacedError, StoreUnavailableError, StoreUninitializedError
from identity_service.domain.ids import NO_LINK, Epoch, new_epoch
from identity_service.domain.log import Head, LogPage, Revision
from identity_service.domain.ports import EventLog
from identity_service.replication.read_ahead import read_ahead

_PAGE: Final = 1000
"""The number of entries in one read."""
_ATTEMPTS: Final = 3
"""The number of times that one call follows a replaced log before it raises StoreUnavailableError."""


_START: Final = Revision(epoch=Epoch(""), position=0, link=NO_LINK)
"""The place before anything was read."""


class LogReader:
    """A reader that follows one log. If the log is replaced, the reader reads the new one from its start."""

    def __init__(
        self,
        log: ChangeLog,
        event_log: EventLog,
        *,
        begin: Callable[[Head], None],
        fold: Callable[[LogPage, Revision], None],
    ) -> None:
        """Begin at the start of the log; nothing is read yet.

        Args:
            log: the log to read.
            event_log: records replaced, renewed, rebuilt and trimmed logs.
            begin: called with the head before a log is read from its start.
            fold: called with each page that continues the log, and the cursor at the end of that page.
        """
        self._log = log
        self._event_log = event_log
        self._begin = begin
        self._fold = fold
        self._from_start = True
        self._read_before = False
        self._recorded_epoch: Epoch | None = None
        """The epoch of the log that the last event `log_replaced` was about."""
        self._may_have_lost = False
        """True if the log was replaced since its end was last reached. It is an attribute because the read
        may fail in between."""
        self.cursor = _START
        """The place of the last entry that was read."""

    def start_over(self) -> Head:
        """Begin at the start of the log that the store has now; returns its head.

        Raises StoreUnavailableError.
        """
        head = self._log.head()
        self._begin(head)  # first: if it fails, the next read finds the log replaced again
        self._log.adopt(head.epoch)
        self._from_start = True
        self.cursor = replace(_START, epoch=head.epoch)
        return head

    def start_complete(self) -> None:
        """Do the same as `start_over`, then rebuild the log if it lacks facts that the state holds.

        A log whose entries have vanished gets a new epoch first. Raises StoreUnavailableError;
        StoreDamagedError if the log cannot be completed, so that nothing may be answered from it.
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
        """Read to an end that the log had after this call began; returns whether the log was replaced.

        Raises StoreUnavailableError; StoreUninitializedError if the store has no log and none was read
        before.
        """
        for _ in range(_ATTEMPTS):
            page = self._read_next()
            goal = page.head.position
            with contextlib.closing(self._pages_from(page)) as pages:
                for page in pages:
                    if not self._fold_page(page):
                        break
                    if self.cursor.position >= goal:
                        replaced, self._may_have_lost = self._may_have_lost, False
                        self._from_start, self._read_before = False, True
                        return replaced
            self._switch_log(page.head)
        raise StoreUnavailableError("the change log is replaced again and again while it is read")

    def renew(self, found: Head | None) -> None:
        """Give the log a new epoch, unless another process did so first.

        Every process then reads the log from its start and repairs it.

        Args:
            found: the head of the damaged log; None = the log has lost its epoch.
        """
        holds = self._log.renew(found.epoch if found is not None else None, new_epoch())
        self._event_log.record("epoch_renewed", epoch=holds)

    def _read_next(self) -> LogPage:
        """Return the next page. If a log that was read before has lost its epoch, give it a new one first."""
        try:
            return self._log.read(self.cursor.position, _PAGE)
        except StoreUninitializedError:
            if not self._read_before:
                raise  # only `identity init` makes a store
            self.renew(None)
            return self._log.read(self.cursor.position, _PAGE)

    def _pages_from(self, page: LogPage) -> Generator[LogPage, None, None]:
        """Yield this page and those after it; each begins at the cursor, where the last folded page ended."""
        while True:
            if len(page.entries) == _PAGE:
                yield from read_ahead(self._log, page, _PAGE)
            else:
                yield page
            page = self._log.read(self.cursor.position, _PAGE)

    def _switch_log(self, found: Head) -> None:
        """Begin at the start of the log that the store has now: `found` does not continue the old one."""
        cursor = self.cursor
        same = found.epoch == cursor.epoch
        if same and not self._from_start and cursor.position < found.floor:
            self._event_log.record("log_trimmed_meanwhile", known=str(cursor), floor=found.floor)
            self.start_over()
            return
        # Recorded once, even if reading the new log fails repeatedly.
        if found.epoch != self._recorded_epoch or same:
            self._recorded_epoch = found.epoch
            self._event_log.record("log_replaced", known=str(cursor), found=str(found.revision))
        if same:
            self.renew(found)
        self.start_over()
        self._may_have_lost = self._read_before

    def _fold_page(self, page: LogPage) -> bool:
        """Fold a page, all of it or nothing; return False if it does not continue the entries read before."""
        cursor, head = self.cursor, page.head
        if head.epoch != cursor.epoch or head.position < cursor.position:
            return False
        position, link = cursor.position, cursor.link
        for entry in page.entries:
            chained = entry.position == position + 1 and entry.previous_link == link
            if not (chained or self._may_skip(position, entry.position, head.floor)):
                return False
            position, link = entry.position, entry.link
        cursor = Revision(epoch=cursor.epoch, position=position, link=link)
        if not page.entries:
            if self._from_start and cursor.position < head.floor == head.position:
                cursor = head.revision  # all entries were trimmed or lost
            if cursor != head.revision:
                return False
        self._fold(page, cursor)  # before the cursor moves: if folding fails, the page is read again
        self.cursor = cursor
        return True

    def _may_skip(self, position: int, found: int, floor: int) -> bool:
        """Return whether the entry at `found` may follow `position` although no chain of links joins them."""
        # Entries up to the floor may be missing. That is safe for a read from the start: it loaded the
        # generations before, and the replicas that know a live denial append it again (repair).
        return self._from_start and position < floor and position < found <= floor + 1
