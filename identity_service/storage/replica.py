"""The replica: this process's copy of the change log, folded in memory.

Owns what is known, up to where, and since when that is confirmed. Starts no thread (`follower.py`
does) and knows no database: it reads through the port ChangeLog.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.errors import (
    ClockSkewedError,
    NotReadyError,
    ReplicaStaleError,
    RevisionNotReachedError,
    ServerBusyError,
    StoreUnavailableError,
    UnavailableError,
)
from identity_service.domain.ids import NO_LINK, Epoch, Link
from identity_service.domain.log import Appended, Head, LogPage, RecordChanged, Revision
from identity_service.domain.ports import ChangeLog, Clock, Journal, LogListener
from identity_service.domain.revocations import Revocations

_PAGE: Final = 1000
_PENDING_BEATS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """When an answer from memory may be trusted."""

    max_staleness: timedelta = timedelta(seconds=5)
    leeway: timedelta = timedelta(seconds=10)
    """How far the wall clocks of process and store may differ."""
    strong_limit: int = 4
    """How many callers may wait for the store at once in `reach`."""


@dataclass(frozen=True, slots=True)
class _Cursor:
    """The last entry that was folded."""

    epoch: Epoch
    position: int
    link: Link


class Replica:
    """Implements the port ReplicaView, and folds what the follower brings."""

    def __init__(self, log: ChangeLog, clock: Clock, journal: Journal, config: ReplicaConfig) -> None:
        self._log = log
        self._clock = clock
        self._journal = journal
        self._config = config
        self._max_staleness = config.max_staleness.total_seconds()
        self._revocations = Revocations()
        self._subscribers: list[Callable[[RecordChanged | None], None]] = []
        self._listeners: list[LogListener] = []
        self._cursor = _Cursor(Epoch(""), 0, NO_LINK)
        self._revision = Revision(epoch=Epoch(""), position=0)
        self._ready = False
        self._skew: timedelta | None = None
        self._confirmed: float | None = None
        self._pending: deque[tuple[float, Head]] = deque(maxlen=_PENDING_BEATS)
        self._reading = threading.Lock()
        self._reads_begun = 0
        self._reads_done = 0
        self._folding = threading.Lock()
        self._waiting = threading.BoundedSemaphore(config.strong_limit)

    @property
    def revision(self) -> Revision:
        return self._revision

    @property
    def revocations(self) -> Revocations:
        return self._revocations

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def staleness(self) -> float:
        """Seconds since the last beat was sent that the store confirmed and whose head is folded."""
        confirmed = self._confirmed
        return float("inf") if confirmed is None else self._clock.monotonic() - confirmed

    def subscribe(self, on_change: Callable[[RecordChanged | None], None]) -> None:
        """Call this before the revision passes a changed record; None = anything may have changed."""
        self._subscribers.append(on_change)

    def follow(self, listener: LogListener) -> None:
        """Tell this listener of everything that is folded from now on."""
        self._listeners.append(listener)

    def require_ready(self) -> None:
        if not self._ready:
            raise NotReadyError("this process has not yet read the change log; try again")

    def require_fresh(self) -> None:
        confirmed = self._confirmed
        if confirmed is None or self._clock.monotonic() - confirmed > self._max_staleness:
            self.require_ready()
            raise ReplicaStaleError("this process has not heard from the store for too long; try again")
        if self._skew is not None:
            raise ClockSkewedError("the clocks of this process and of the store differ too much")

    def is_fresh(self) -> bool:
        """Whether `require_fresh` would pass."""
        try:
            self.require_fresh()
        except UnavailableError:
            return False
        return True

    def reach(self, revision: Revision | None) -> None:
        self.require_ready()
        if revision is not None and self._covers(revision):
            return
        if not self._waiting.acquire(blocking=False):
            raise ServerBusyError("too many calls wait for the store; try again")
        try:
            self.catch_up()
        finally:
            self._waiting.release()
        if revision is not None and revision.epoch == self._cursor.epoch and not self._covers(revision):
            raise RevisionNotReachedError("the change log does not reach this revision yet; try again")

    def learn(self, appended: Appended) -> None:
        with self._folding:
            for change, link in appended.changes:
                self._revocations.apply(change, link)
        for change, _ in appended.changes:
            if isinstance(change, RecordChanged):
                self._notify(change)

    # What the follower calls.

    def load(self) -> None:
        """Read everything from the start: generations and records first, then the whole log.

        The head is asked for after the records were read, so that no change falls between the two.
        """
        self._start_over(self._log.head())
        self.catch_up()
        self._ready = True

    def catch_up(self) -> None:
        """Read the log to an end that it had after this call began. Callers share a read in progress."""
        wanted = self._reads_begun + 1
        with self._reading:
            if self._reads_done >= wanted:
                return
            self._reads_begun += 1
            number = self._reads_begun
            self._read_to_end()
            self._reads_done = number

    def beat(self, process: str) -> None:
        """One heartbeat: measures staleness, finds a replaced log, prompts a catch-up that was missed."""
        sent, wall = self._clock.monotonic(), self._clock.now()
        head = self._log.beat(process)
        self._skew = self._measure_skew(wall, head.time)
        self._pending.append((sent, head))
        cursor = self._cursor
        if (cursor.epoch, cursor.position, cursor.link) != (head.epoch, head.position, head.link):
            self.catch_up()
        self._confirm()
        if self._skew is None:
            with self._folding:
                # The earlier of both clocks, so that no denial is forgotten while a token still lives.
                self._revocations.denylist.evict(min(head.time, self._clock.now()))

    def _covers(self, revision: Revision) -> bool:
        cursor = self._cursor
        return revision.epoch == cursor.epoch and revision.position <= cursor.position

    def _read_to_end(self) -> None:
        page = self._log.read(self._cursor.position, _PAGE)
        if self._was_replaced(page):
            self._journal.record("log_replaced", known=str(self._revision), found=str(page.head.revision))
            self._start_over(page.head)
            page = self._log.read(0, _PAGE)
        goal = page.head.position
        self._fold(page)
        while self._cursor.position < goal:
            self._fold(self._log.read(self._cursor.position, _PAGE))
        self._confirm()

    def _was_replaced(self, page: LogPage) -> bool:
        """Whether this is not the log that was read so far, by epoch, end or link."""
        cursor = self._cursor
        if page.head.epoch != cursor.epoch or page.head.position < cursor.position:
            return True
        if not page.entries:
            return page.head.position != cursor.position or page.head.link != cursor.link
        first = page.entries[0]
        return first.position != cursor.position + 1 or first.previous_link != cursor.link

    def _fold(self, page: LogPage) -> None:
        """Fold a page, or refuse it whole when it does not follow what was folded before."""
        cursor = self._cursor
        if self._was_replaced(page):
            raise StoreUnavailableError("the change log has a gap: an entry does not follow the last")
        for entry in page.entries:
            if entry.position != cursor.position + 1 or entry.previous_link != cursor.link:
                raise StoreUnavailableError("the change log has a gap: an entry does not follow the last")
            with self._folding:
                self._revocations.apply(entry.change, entry.link)
            if isinstance(entry.change, RecordChanged):
                self._notify(entry.change)
            cursor = _Cursor(cursor.epoch, entry.position, entry.link)
        self._move(cursor)
        if page.entries:
            changes = [(entry.change, entry.link) for entry in page.entries]
            for listener in self._listeners:
                listener.folded(self._revision, changes)

    def _start_over(self, head: Head) -> None:
        """Follow this log from its start, and keep all that was known: facts only grow."""
        self._confirmed = None
        of_this_log = [beat for beat in self._pending if beat[1].epoch == head.epoch]
        self._pending = deque(of_this_log, maxlen=_PENDING_BEATS)
        self._log.adopt(head.epoch)
        for principal, generation in self._log.generations().items():
            with self._folding:
                self._revocations.raise_to(principal, generation)
        self._notify(None)
        self._move(_Cursor(head.epoch, 0, NO_LINK))
        for listener in self._listeners:
            listener.replaced(self._revision)

    def _move(self, cursor: _Cursor) -> None:
        self._cursor = cursor
        self._revision = Revision(epoch=cursor.epoch, position=cursor.position)

    def _notify(self, change: RecordChanged | None) -> None:
        for subscriber in self._subscribers:
            subscriber(change)

    def _confirm(self) -> None:
        """Move the confirmed time to the latest beat whose head has been folded."""
        cursor = self._cursor
        for sent, head in tuple(self._pending):
            known = head.epoch == cursor.epoch and head.position <= cursor.position
            if known and (self._confirmed is None or sent > self._confirmed):
                self._confirmed = sent

    def _measure_skew(self, before: datetime, store: datetime) -> timedelta | None:
        """How far the store's clock lies outside of what this process saw, where that is too far."""
        after = self._clock.now()
        skew = max(before - store, store - after, timedelta(0))
        return skew if skew > self._config.leeway else None
