"""The replica: this process's copy of the change log, folded into memory.

The replica reads the log, sends heartbeats, and owns the time at which its facts and their revision
(`folded_log.py`) were last confirmed. It starts no thread (`follower.py` does) and knows no database: it
reads through the port ChangeLog.
"""

import threading
from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.change_log import NO_MARKS, ChangeLog
from identity_service.domain.clock_guard import ClockVerdict
from identity_service.domain.errors import (
    RevisionNotReachedError,
    ServerBusyError,
    StoreDamagedError,
    StoreFencedError,
    StoreUnavailableError,
    StoreUninitializedError,
    UnavailableError,
    UnsafeStoreError,
)
from identity_service.domain.log import Head, Marks, Revision
from identity_service.domain.ports import Clock, EventLog
from identity_service.replication.folded_log import FoldedLog
from identity_service.replication.freshness import ACTIONABLE, ClockSample, Freshness
from identity_service.replication.log_reader import LogReader
from identity_service.replication.maintenance import retention_for

_PENDING_HEARTBEATS: Final = 64
"""The number of heartbeats that are remembered until their head is folded; beyond it the oldest is
dropped."""
_LOADS: Final = 5
"""The number of attempts to read a log whose entries vanish meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """The limits within which an answer from memory may be trusted."""

    max_staleness: timedelta = timedelta(seconds=5)
    """The longest time since the last confirmed heartbeat was sent."""
    leeway: timedelta = timedelta(seconds=10)
    """The largest difference between the wall clocks of the process and the store."""
    retention: timedelta = timedelta(hours=25)
    """The time for which the log keeps entries: longer than any denial lasts."""
    marks: Marks = NO_MARKS
    """The longest durations that this process is configured with; heartbeats raise the store's marks to
    them."""
    strong_limit: int = 4
    """The number of callers that may wait for the store in `reach` at the same time."""


class Replica(FoldedLog):
    """A copy of one change log in memory; implements the port ReplicaView. The follower keeps it current."""

    def __init__(self, log: ChangeLog, clock: Clock, event_log: EventLog, config: ReplicaConfig) -> None:
        super().__init__(log, clock, event_log)
        self._log = log
        self._config = config
        self._freshness = freshness = Freshness(
            clock, event_log, max_staleness=config.max_staleness, leeway=config.leeway
        )
        # Verify calls one of these on every call.
        self.require_ready, self.is_fresh = freshness.require_ready, freshness.is_fresh
        self.require_fresh, self.require_clock = freshness.require_fresh, freshness.require_clock
        self._reader = LogReader(log, event_log, begin=self._begin, fold=self._fold)
        self.marks = config.marks
        """The store's marks: the longest lifetimes and leeway ever configured, the latest steady time."""
        self._pending: deque[tuple[float, Head]] = deque(maxlen=_PENDING_HEARTBEATS)
        self._reading = threading.Lock()
        self._reads_begun = 0
        self._reads_done = 0
        self._waiting = threading.BoundedSemaphore(config.strong_limit)

    @property
    def staleness(self) -> float:
        """The seconds since the last confirmed heartbeat whose head is folded was sent; infinite if none."""
        return self._freshness.staleness

    @property
    def status(self) -> str:
        """The reason why this process may not answer, or "fresh"; `identity doctor` shows it."""
        return self._freshness.status

    @property
    def store_is_unsafe(self) -> bool:
        """True if the last heartbeat found the set-up or the files of the store to be unsafe."""
        return isinstance(self._freshness.last_error, UnsafeStoreError)

    @property
    def latest_time(self) -> datetime:
        """The latest time that this process ever accepted, or the present time if that is later."""
        return self._freshness.latest()

    @property
    def held_time(self) -> datetime | None:
        """The wall-clock time, or None until the wall clock has been steady for 10 minutes."""
        return self._freshness.held_time()

    def reach(self, revision: Revision | None) -> None:
        """Read the log to its end; if a revision is given, only if it has not been read yet.

        Raises NotReadyError, ServerBusyError if too many callers wait for the store, RevisionNotReachedError
        if the log ends before the revision, StoreUnavailableError.
        """
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
        if revision.epoch == self.revision.epoch and not self._has_read(revision):
            raise RevisionNotReachedError("the change log does not reach this revision yet; try again")
        # The revision lies in another history, or was read too long ago to compare. The log has been read to
        # its end, which is all that can be done: a client's revision is no reason to read from the start.
        self.recognises(revision)

    # Methods that the follower calls.

    def load(self) -> None:
        """Read everything from the start: generations and records first, then the whole log.

        The head is requested after the records were read, so that no change is missed in between. A log that
        lacks entries that the store knows of is rebuilt first, even if this shows during the read.

        Raises StoreUnavailableError, StoreUninitializedError, StoreDamagedError.
        """
        for _ in range(_LOADS):
            with self._reading:
                self._reader.start_complete()
            self.catch_up()
            head = self._log.head()
            if head.whole and head.complete:
                self._freshness.ready = True
                return
        raise StoreUnavailableError("entries vanish from the change log again and again while it is read")

    def catch_up(self) -> None:
        """Read the log to an end that it had after this call began. Concurrent callers share one read.

        Raises UnavailableError.
        """
        wanted = self._reads_begun + 1
        with self._reading:
            if self._reads_done >= wanted:
                return
            self._reads_begun += 1
            number = self._reads_begun
            try:
                replaced = self._reader.read_to_end()
            except UnavailableError as error:
                if isinstance(error, ACTIONABLE) or not isinstance(self._freshness.last_error, ACTIONABLE):
                    self._freshness.last_error = error
                raise
            with self._folding:
                self.revocations.history_is_read()
            if replaced:
                self.maintenance.request_repair()
            self._reads_done, self._freshness.last_error = number, None
            self._confirm()

    def heartbeat(self, process: str) -> None:
        """Send one heartbeat: it resets the staleness, and finds a replaced log or unread entries.

        Raises UnavailableError.
        """
        try:
            self._heartbeat(process)
        except (UnsafeStoreError, StoreDamagedError) as error:
            self._freshness.last_error = error
            raise
        except StoreFencedError as error:
            self._freshness.fenced = error
            raise
        self._freshness.fenced = None
        if isinstance(self._freshness.last_error, UnsafeStoreError | StoreDamagedError):
            self._freshness.last_error = None

    def _heartbeat(self, process: str) -> None:
        """Send a heartbeat, and another one if the log got a new epoch: only one under that epoch counts."""
        try:
            head = self._heartbeat_once(process)
        except StoreUninitializedError:
            if not self._freshness.ready:
                raise
            self.catch_up()  # gives a log that was emptied a new epoch
            head = self._heartbeat_once(process)
        if head.epoch != self.revision.epoch:
            self._heartbeat_once(process)  # only a heartbeat under the new epoch counts

    def _heartbeat_once(self, process: str) -> Head:
        """Send a heartbeat and act on the head that the store returns; returns the head."""
        sample = self._freshness.sample()
        # Sends all marks that this process knows, so that a store that lost its own gets them back.
        marks = replace(self.marks, time=self._freshness.held_time())
        head = self._log.heartbeat(process, self._retention(), marks=marks, status=self.status)
        self._keep_marks(head)
        verdict = self._judge_clock(sample, head)
        if not head.whole:
            self._reader.renew(head)
        if verdict is ClockVerdict.READ_AGAIN:
            self._read_again(head)
        # Only after the verdict and the read that it may require: no process becomes fresh while its clock is
        # not accepted.
        self._pending.append((sample.steady, head))
        if not (head.whole and self._reader.cursor == head.revision):
            self.catch_up()
        self._confirm()
        self._send_again(self._own_writes.after_heartbeat(head, sample.steady))
        self.maintenance.held(head, self.revision.position, marks.time)
        if not head.complete:
            self.maintenance.request_rebuild()
        return head

    def _retention(self) -> timedelta:
        """Return how far back the log must reach: as configured, or for the longest lifetime ever known."""
        marks = self.marks
        longest = retention_for(marks.lifetime, marks.leeway) if marks.lifetime else timedelta(0)
        return max(self._config.retention, longest)

    def _keep_marks(self, head: Head) -> None:
        """Keep the longest durations ever known, but the store's times: an operator may set these back."""
        self.marks = replace(self.marks.merged(head.marks), time=head.marks.time, latest=head.marks.latest)

    def _read_again(self, head: Head) -> None:
        """Read the log from its start, so that a clock that was set back can be accepted."""
        with self._reading:
            self._reader.start_over()
        self.catch_up()
        self._judge_clock(self._freshness.sample(), head)

    def _judge_clock(self, sample: ClockSample, head: Head) -> ClockVerdict | None:
        """Decide whether calls may rely on the wall clock; if so, evict the denials that have ended by it."""
        with self._folding:
            verdict = self._freshness.judge(sample, head)
            if verdict is ClockVerdict.STEADY:
                self.revocations.evict(self._freshness.forgettable())
            return verdict

    def _has_read(self, revision: Revision) -> bool:
        """Return whether the log was read up to this position, whichever entry is there."""
        known = self.revision
        return revision.epoch == known.epoch and revision.position <= known.position

    def _begin(self, head: Head) -> None:
        """Prepare to read a log from its start."""
        self._freshness.confirmed = None
        # The calls that may fail come first: the clock guard may begin anew only if the log is read from its
        # start.
        known_before = dict(self.revocations.generations)
        self._begin_history(head.epoch, self._log.generations(), known_before)
        with self._folding:
            self._freshness.begin()
        self._keep_marks(head)
        of_this_log = [heartbeat for heartbeat in tuple(self._pending) if heartbeat[1].epoch == head.epoch]
        self._pending = deque(of_this_log, maxlen=_PENDING_HEARTBEATS)

    def _confirm(self) -> None:
        """Move the confirmed time to the latest heartbeat whose head, by its link, has been folded."""
        for sent, head in tuple(self._pending):
            if self._history.holds(head.revision) and (
                self._freshness.confirmed is None or sent > self._freshness.confirmed
            ):
                self._freshness.confirmed = sent
