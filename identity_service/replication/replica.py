"""The replica: this process's copy of the change log, folded in memory.

Owns what is known, up to where, and since when that is confirmed. Starts no thread (`follower.py`
does) and knows no database: it reads through the port ChangeLog.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.clock_guard import ClockVerdict
from identity_service.domain.errors import (
    NoSigningKeyError,
    NotReadyError,
    ReplicaStaleError,
    RevisionNotReachedError,
    ServerBusyError,
    StoreDamagedError,
    StoreFencedError,
    StoreUnavailableError,
    StoreUninitializedError,
    UnavailableError,
    UnsafeStoreError,
)
from identity_service.domain.ids import NO_LINK, Epoch
from identity_service.domain.log import Appended, Fact, Head, LogPage, Marks, RecordChanged, Revision
from identity_service.domain.ports import Clock, EventLog, LogListener
from identity_service.domain.revocations import Revocations
from identity_service.domain.store import NO_MARKS, ChangeLog
from identity_service.replication.history import History
from identity_service.replication.log_reader import Cursor, LogReader
from identity_service.replication.maintenance import LogMaintenance, retention_for
from identity_service.replication.rate_limited_event import RateLimitedEvent
from identity_service.replication.unconfirmed import Missing, UnconfirmedWrites
from identity_service.replication.wall_clock import ClockSample, WallClock

FRESH: Final = "fresh"
"""The status of a process that may answer."""
_NAMED: Final = (NoSigningKeyError, UnsafeStoreError, StoreDamagedError)
"""Errors whose message says what to mend: callers are told them instead of that this process is stale."""
_PENDING_HEARTBEATS: Final = 64
_LOADS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """When an answer from memory may be trusted."""

    max_staleness: timedelta = timedelta(seconds=5)
    leeway: timedelta = timedelta(seconds=10)
    """How far the wall clocks of process and store may differ."""
    retention: timedelta = timedelta(hours=25)
    """How far back the log must reach: longer than any denial lasts."""
    marks: Marks = NO_MARKS
    """The longest that this process is configured with; its heartbeats raise those of the store to it."""
    strong_limit: int = 4
    """How many callers may wait for the store at once in `reach`."""


class Replica:
    """Implements the port ReplicaView, and folds what the follower brings."""

    def __init__(self, log: ChangeLog, clock: Clock, event_log: EventLog, config: ReplicaConfig) -> None:
        self._log = log
        self._clock = clock
        self._event_log = event_log
        self._config = config
        self._max_staleness = config.max_staleness.total_seconds()
        self._revocations = Revocations()
        self._subscribers: list[Callable[[RecordChanged | None], None]] = []
        self._listeners: list[LogListener] = []
        self._reader = LogReader(log, event_log, begin=self._begin, fold=self._fold)
        self._revision = Revision(epoch=Epoch(""), position=0, link=NO_LINK)
        self._ready = False
        self._trouble: UnavailableError | None = None
        self._fenced: StoreFencedError | None = None
        """Why the last heartbeat was refused, if the store was moved: reading it goes well all the same."""
        self._wall_clock = WallClock(clock, event_log, leeway=config.leeway)
        self._confirmed: float | None = None
        self._marks = config.marks
        self._pending: deque[tuple[float, Head]] = deque(maxlen=_PENDING_HEARTBEATS)
        self._reading = threading.Lock()
        self._reads_begun = 0
        self._reads_done = 0
        self._folding = threading.Lock()
        self._waiting = threading.BoundedSemaphore(config.strong_limit)
        self._history = History(Epoch(""))
        self._unread = UnconfirmedWrites()
        self._unrecognised = RateLimitedEvent("revision_unrecognised", event_log, clock)
        self.maintenance = LogMaintenance(log, self._revocations, clock, event_log, sent=self._sent)

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
    def marks(self) -> Marks:
        return self._marks

    @property
    def staleness(self) -> float:
        """Seconds since the last beat was sent that the store confirmed and whose head is folded."""
        confirmed = self._confirmed
        return float("inf") if confirmed is None else self._clock.monotonic() - confirmed

    @property
    def store_is_unsafe(self) -> bool:
        """Whether the last heartbeat found that the store breaks a promise by its set-up or its files."""
        return isinstance(self._trouble, UnsafeStoreError)

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
            if self._fenced is not None:
                raise StoreFencedError(self._fenced.target)
            if isinstance(self._trouble, _NAMED):
                raise type(self._trouble)(str(self._trouble))
            raise ReplicaStaleError("this process has not heard from the store for too long; try again")
        self._wall_clock.require()

    def require_clock(self) -> None:
        if self._confirmed is None:
            self.require_ready()
            raise NotReadyError("this process reads the change log again from its start; try again")
        self._wall_clock.require()

    def is_fresh(self) -> bool:
        """Whether `require_fresh` would pass."""
        return self.status == FRESH

    @property
    def status(self) -> str:
        """Why this process may not answer, or "fresh": what `identity doctor` shows of it."""
        try:
            self.require_fresh()
        except UnavailableError as error:
            return str(error)
        return FRESH

    @property
    def latest_time(self) -> datetime:
        """The latest wall-clock time that this process ever accepted, or that it is now."""
        return self._wall_clock.latest()

    @property
    def held_time(self) -> datetime | None:
        """The wall-clock time, or None while the wall clock has not held for 10 minutes."""
        return self._wall_clock.held_time()

    def recognises(self, revision: Revision) -> bool:
        if self._history.holds(revision):
            return True
        self._unrecognised.happened()
        return False

    def reach(self, revision: Revision | None) -> None:
        self.require_ready()
        if revision is not None and self._history.holds(revision):
            return
        if not self._waiting.acquire(blocking=False):
            raise ServerBusyError("too many calls wait for the store; try again")
        try:
            self.catch_up()
        finally:
            self._waiting.release()
        if revision is None:
            return
        if revision.epoch == self._revision.epoch and not self._has_read(revision):
            raise RevisionNotReachedError("the change log does not reach this revision yet; try again")
        # Of another history, or of too long ago to say: everything is known that there is now, which is all
        # that can be done for it. What a client names is no reason to read the log again.
        self.recognises(revision)

    def learn(self, appended: Appended) -> None:
        with self._folding:
            for change, link in appended.changes:
                self._revocations.apply(change, link)
        # After that: what a new epoch finds known is sent to it, and what comes later is found missing here.
        self._send_again(self._unread.add(appended, self._clock.monotonic()))
        for change, _ in appended.changes:
            if isinstance(change, RecordChanged):
                self._notify(change)

    def add_unconfirmed(self, fact: Fact) -> None:
        with self._folding:
            self._revocations.apply(fact, NO_LINK)
        self.maintenance.add_unconfirmed(fact)

    # What the follower calls.

    def load(self) -> None:
        """Read everything from the start: generations and records first, then the whole log.

        The head is asked for after the records were read, so that no change falls between the two. A log
        that holds less than its store is completed first, also if that shows while it is read.
        """
        for _ in range(_LOADS):
            with self._reading:
                self._reader.start_complete()
            self.catch_up()
            head = self._log.head()
            if head.whole and head.complete:
                self._ready = True
                return
        raise StoreUnavailableError("entries vanish from the change log again and again while it is read")

    def catch_up(self) -> None:
        """Read the log to an end that it had after this call began. Callers share a read in progress."""
        wanted = self._reads_begun + 1
        with self._reading:
            if self._reads_done >= wanted:
                return
            self._reads_begun += 1
            number = self._reads_begun
            try:
                replaced = self._reader.read_to_end()
            except UnavailableError as error:
                if isinstance(error, _NAMED) or not isinstance(self._trouble, _NAMED):
                    self._trouble = error
                raise
            with self._folding:
                self._revocations.history_is_read()
            if replaced:
                self.maintenance.owe_everything()
            self._reads_done, self._trouble = number, None
            self._confirm()

    def heartbeat(self, process: str) -> None:
        """One heartbeat: measures staleness, finds a replaced log, prompts a catch-up that was missed."""
        try:
            self._heartbeat(process)
        except (UnsafeStoreError, StoreDamagedError) as error:
            self._trouble = error
            raise
        except StoreFencedError as error:
            self._fenced = error
            raise
        self._fenced = None
        if isinstance(self._trouble, UnsafeStoreError | StoreDamagedError):
            self._trouble = None

    def _heartbeat(self, process: str) -> None:
        try:
            head = self._heartbeat_once(process)
        except StoreUninitializedError:
            if not self._ready:
                raise
            self.catch_up()  # which gives a log that was emptied a new epoch
            head = self._heartbeat_once(process)
        if head.epoch != self._revision.epoch:
            self._heartbeat_once(process)  # the log has a new epoch, and only a beat of that one counts

    def _heartbeat_once(self, process: str) -> Head:
        sample = self._wall_clock.sample()
        # With the longest that it knows of, so that a store which lost its marks has them back.
        marks = replace(self._marks, time=self._wall_clock.held_time())
        head = self._log.heartbeat(process, self._retention(), marks=marks, status=self.status)
        self._keep_marks(head)
        verdict = self._judge_clock(sample, head)
        if not head.whole:
            self._reader.renew(head)
        if verdict is ClockVerdict.READ_AGAIN:
            self._read_again(head)
        # After the verdict, and what it asked for: no process becomes fresh by a clock that is not accepted.
        self._pending.append((sample.steady, head))
        if not (head.whole and self._reader.cursor.is_at(head)):
            self.catch_up()
        self._confirm()
        self._send_again(self._unread.beaten(head, sample.steady))
        self.maintenance.held(head, self._revision.position, marks.time)
        if not head.complete:
            self.maintenance.owe_rebuild()
        return head

    def _retention(self) -> timedelta:
        marks = self._marks
        longest = retention_for(marks.lifetime, marks.leeway) if marks.lifetime else timedelta(0)
        return max(self._config.retention, longest)

    def _keep_marks(self, head: Head) -> None:
        """Hold the longest that was ever known. The time is the store's: an operator may set it back."""
        self._marks = replace(self._marks.merged(head.marks), time=head.marks.time, latest=head.marks.latest)

    def _read_again(self, head: Head) -> None:
        """Read the log from its start, so that the clock that was set back can be accepted."""
        with self._reading:
            self._reader.start_over()
        self.catch_up()
        self._judge_clock(self._wall_clock.sample(), head)

    def _judge_clock(self, sample: ClockSample, head: Head) -> ClockVerdict | None:
        """Decide whether calls may go by the wall clock, and forget what it says has ended."""
        with self._folding:
            verdict = self._wall_clock.judge(sample, head)
            if verdict is ClockVerdict.STEADY:
                self._revocations.evict(self._wall_clock.forgettable())
            return verdict

    def _has_read(self, revision: Revision) -> bool:
        """Whether the log that is followed was read to this position, whatever stands there."""
        known = self._revision
        return revision.epoch == known.epoch and revision.position <= known.position

    def _begin(self, head: Head) -> None:
        """A log is about to be read from its start. All that was known stays known: facts only grow."""
        self._confirmed = None
        # What may fail comes first: a clock that was set back is accepted only once the log is read again.
        known_before = dict(self._revocations.generations)
        generations = self._log.generations()
        with self._folding:
            self._revocations.begin_history(generations, known_before)
        self._notify(None)
        with self._folding:
            self._wall_clock.begin()
        self._keep_marks(head)
        self._history = History(head.epoch)
        self._unread.begin(self._history)
        of_this_log = [heartbeat for heartbeat in tuple(self._pending) if heartbeat[1].epoch == head.epoch]
        self._pending = deque(of_this_log, maxlen=_PENDING_HEARTBEATS)
        self._revision = Revision(epoch=head.epoch, position=0, link=NO_LINK)
        for listener in self._listeners:
            listener.replaced(self._revision)

    def _fold(self, page: LogPage, cursor: Cursor) -> None:
        with self._folding:
            for entry in page.entries:
                self._revocations.apply(entry.change, entry.link)
        for entry in page.entries:
            if isinstance(entry.change, RecordChanged):
                self._notify(entry.change)
        revision = cursor.revision
        self._history.add(page.entries, revision)
        # Entries at the end may be missing: the place moves past them all the same, and watchers with it.
        moved, self._revision = revision != self._revision, revision
        self._send_again(self._unread.read(revision.position))
        if moved and self._listeners:
            changes = [(entry.change, entry.link) for entry in page.entries]
            for listener in self._listeners:
                listener.folded(self._revision, changes)

    def _send_again(self, missing: Missing) -> None:
        """Send what this process was told to be durable and what the log does not have, or may not have."""
        if missing.lost:
            self._event_log.record("own_writes_lost", count=len(missing.lost))
        for fact in (*missing.lost, *missing.unsure):
            self.maintenance.add_unconfirmed(fact)
        if missing.repairs:
            self.maintenance.owe_everything()

    def _sent(self, facts: Sequence[Fact], end: Revision) -> bool:
        """A server has taken facts: unless the place that it names is read, they are sent again."""
        missing = self._unread.sent(facts, end, self._clock.monotonic())
        self._send_again(missing)
        return not missing

    def _notify(self, change: RecordChanged | None) -> None:
        for subscriber in self._subscribers:
            subscriber(change)

    def _confirm(self) -> None:
        """Move the confirmed time to the latest beat whose head, by its link, has been folded."""
        for sent, head in tuple(self._pending):
            if self._history.holds(head.revision) and (self._confirmed is None or sent > self._confirmed):
                self._confirmed = sent
