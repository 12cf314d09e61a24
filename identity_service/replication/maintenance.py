"""LogMaintenance: repairs a log that lost entries, resends unconfirmed facts, and trims the log.

The module owns the facts that the store has not confirmed to this process. It starts no thread (`follower.py`
does) and answers no call.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from identity_service.domain.change_log import ChangeLog
from identity_service.domain.clock_guard import LONGEST_BACK
from identity_service.domain.errors import StoreDamagedError, StoreUnavailableError
from identity_service.domain.log import Fact, Head, Revision, SessionEnded, TokenDenied
from identity_service.domain.ports import Clock, EventLog
from identity_service.domain.revocations import Revocations

_CHUNK: Final = 250
"""The number of facts in one write, so that other writes wait only briefly."""
_MAX_UNCONFIRMED: Final = 10_000
"""The number of unconfirmed facts that are kept; beyond it the oldest is dropped."""
_MARK_INTERVAL: Final = 60.0
"""The longest time between two notes of the position, in seconds; less if the retention is below 10
minutes."""
_REBUILD_PAUSE: Final = 60.0
"""Seconds until a failed rebuild is tried again: a rebuild reads every key."""
_CLOCK_MARGIN: Final = timedelta(hours=6)
"""The time added to the retention, for clocks that are wrong for a while."""
_TRIM_STEP: Final = 2_000
"""The largest number of positions that one call trims."""


class LogMaintenance:
    """The work that one process does for the log besides reading it. Any thread may call any method."""

    def __init__(
        self,
        log: ChangeLog,
        revocations: Revocations,
        clock: Clock,
        event_log: EventLog,
        *,
        sent: Callable[[Sequence[Fact], Revision], bool],
    ) -> None:
        """Begin with nothing to do.

        Args:
            log: the log to maintain.
            revocations: every fact that this process knows; a repair sends them.
            clock: the monotonic clock.
            event_log: records repairs, resends and trims.
            sent: called when a server has confirmed that its log holds these facts up to this revision; no
                facts = a part of a repair. It makes sure that they are sent again unless this process reads
                that revision, and returns False if it has already requested that.
        """
        self._sent = sent
        self._log = log
        self._revocations = revocations
        self._clock = clock
        self._event_log = event_log
        self._lock = threading.Lock()
        self._unconfirmed: dict[Fact, None] = {}
        self._losses = 0
        self._repaired_losses = 0
        self._marks: deque[tuple[float, int]] = deque()
        self._floor: int | None = None
        self._ended = datetime.min.replace(tzinfo=UTC)
        """The time before which every ended denial is over by every clock that is accepted."""
        self._incomplete = False
        self._rebuild_after = float("-inf")
        self._work = threading.Event()

    @property
    def unconfirmed(self) -> int:
        """The number of facts that the store has not confirmed."""
        return len(self._unconfirmed)

    def add_unconfirmed(self, fact: Fact) -> None:
        """Send this fact again until the store confirms it. Beyond 10,000 facts the oldest is dropped."""
        with self._lock:
            self._unconfirmed[fact] = None
            if len(self._unconfirmed) > _MAX_UNCONFIRMED:
                del self._unconfirmed[next(iter(self._unconfirmed))]
                self._event_log.record("resend_dropped")
        self._work.set()

    def request_repair(self) -> None:
        """Request a repair, because the log was replaced: every known fact that still counts is sent.

        The store appends those that it lacks.
        """
        with self._lock:
            self._losses += 1
            self._marks.clear()
        self._work.set()

    def request_rebuild(self) -> None:
        """Request a rebuild of the log from the state (`Head.complete` is False), after all other work.

        Does nothing for 60 s after a rebuild that failed.
        """
        with self._lock:
            if self._clock.monotonic() < self._rebuild_after:
                return
            self._incomplete = True
        self._work.set()

    def held(self, head: Head, position: int, time: datetime | None) -> None:
        """Note the position known now; request a trim of the entries known for longer than the retention.

        Args:
            head: the head that the last heartbeat returned.
            position: the position up to which everything is known.
            time: the latest wall-clock time that the store keeps from confirmed heartbeats. None = it has
                none, and nothing is trimmed: entries may be needed again after a clock is set back.
        """
        now, retention = self._clock.monotonic(), head.retention.total_seconds()
        with self._lock:
            if not self._marks or now - self._marks[-1][0] >= min(_MARK_INTERVAL, retention / 10):
                self._marks.append((now, position))
            while len(self._marks) > 1 and now - self._marks[1][0] >= retention > 0:
                self._marks.popleft()
            oldest, known = self._marks[0]
            if time is not None and retention and now - oldest >= retention and known > head.floor:
                self._floor = known
                self._ended = time - LONGEST_BACK
                self._work.set()

    def wait(self, timeout: float) -> None:
        """Return when there is work, or after `timeout` seconds."""
        self._work.wait(timeout)

    def wake(self) -> None:
        """End a `wait` in progress."""
        self._work.set()

    def do(self) -> None:
        """Do all work that was requested.

        Raises UnavailableError if the store is unreachable, if its log was replaced again, or if the server
        that accepted the facts is not the one whose log is read. Then resends and repairs stay requested, and
        the next heartbeat requests the rest again.
        """
        self._work.clear()
        try:
            self._resend_unconfirmed()
            self._repair()
            self._rebuild()
            self._trim()
        except BaseException:
            self._work.set()
            raise

    def _resend_unconfirmed(self) -> None:
        """Send the unconfirmed facts, and forget those that the store confirms."""
        with self._lock:
            unconfirmed = list(self._unconfirmed)
        if not unconfirmed:
            return
        for chunk in _batched(unconfirmed, _CHUNK):
            end = self._log.repair(chunk).end
            with self._lock:
                for fact in chunk:
                    self._unconfirmed.pop(fact, None)
            self._require_same_history(chunk, end)
        self._event_log.record("revocations_sent_again", count=len(unconfirmed))

    def _repair(self) -> None:
        """Repair the log: send every known fact, if the log was replaced since the last repair."""
        with self._lock:
            losses = self._losses
        if losses == self._repaired_losses:
            return
        sent = absent = 0
        for chunk in _batched(self._revocations.facts(), _CHUNK):
            repaired = self._log.repair(chunk)
            self._require_same_history((), repaired.end)
            sent += len(chunk)
            absent += repaired.absent
        self._repaired_losses = losses
        self._event_log.record("log_repaired", known=sent, absent=absent)

    def _rebuild(self) -> None:
        """Rebuild the log from the state, if that was requested and no other process did it meanwhile."""
        with self._lock:
            wanted, self._incomplete = self._incomplete, False
        if not wanted or self._log.head().complete:  # another process may have rebuilt it
            return
        try:
            self._event_log.record("log_rebuilt", facts=self._log.rebuild())
        except StoreDamagedError as error:
            self._rebuild_after = self._clock.monotonic() + _REBUILD_PAUSE
            self._event_log.record("log_incomplete", error=str(error))

    def _require_same_history(self, facts: Sequence[Fact], end: Revision) -> None:
        """Raise StoreUnavailableError, and send the facts again, if `end` lies in another history."""
        if not self._sent(facts, end):
            raise StoreUnavailableError(
                "revocations were written to another history of the store than the one that is read; "
                "they are sent again"
            )

    def _trim(self) -> None:
        """Trim the log up to the position that `held` has found, in steps of 2,000 positions."""
        with self._lock:
            goal, self._floor = self._floor, None
        if goal is None:
            return
        head = self._log.head()
        floor = begun = head.floor
        goal = min(goal, head.position - 1)
        while floor < goal:
            step, keep = self._denials_to_keep(floor, min(goal, floor + _TRIM_STEP))
            reached = self._log.trim(step, keep)
            if reached <= floor:
                break
            floor = reached
        if floor > begun:
            self._event_log.record("log_trimmed", entries=floor - begun)

    def _denials_to_keep(self, floor: int, goal: int) -> tuple[int, Sequence[Fact]]:
        """Return the position up to which to trim next, and the denials up to there that must be kept.

        There are such denials only if a clock that was far ahead issued or denied tokens.
        """
        keep: list[Fact] = []
        for entry in self._log.read_entries(floor, goal - floor):
            change = entry.change
            if entry.position > goal:
                break
            if isinstance(change, TokenDenied | SessionEnded) and change.deny_until >= self._ended:
                keep.append(change)
                if len(keep) == _CHUNK:
                    return entry.position, keep
        return goal, keep


def _batched(facts: Iterable[Fact], size: int) -> Iterable[tuple[Fact, ...]]:
    """Yield tuples of `size` facts; the last may be shorter."""
    remaining = iter(facts)
    while chunk := tuple(islice(remaining, size)):
        yield chunk


def retention_for(longest_lifetime: timedelta, leeway: timedelta) -> timedelta:
    """Return how far back a log must reach, so that replaying it yields every denial that still counts.

    A token id alone is denied from now for the longest token lifetime plus the leeway, rounded up to the
    minute. Six hours are added: a clock that is wrong for a while, or that is set back, must not cause the
    loss of an entry that still counts.
    """
    return longest_lifetime + 2 * leeway + timedelta(minutes=10) + _CLOCK_MARGIN
