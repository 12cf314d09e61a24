"""LogMaintenance: puts back what a log has lost, sends again what it may not have taken, and trims it.

Owns what this process owes to the log. Starts no thread (`follower.py` does) and decides no answer.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from identity_service.domain.clock_guard import LONGEST_BACK
from identity_service.domain.errors import StoreDamagedError, StoreUnavailableError
from identity_service.domain.log import Fact, Head, Revision, SessionEnded, TokenDenied
from identity_service.domain.ports import Clock, EventLog
from identity_service.domain.revocations import Revocations
from identity_service.domain.store import ChangeLog

_CHUNK: Final = 250
"""Facts in one write, so that no write holds up the others for long."""
_OWED_AT_MOST: Final = 10_000
_MARK_EVERY: Final = 60.0
_REBUILD_PAUSE: Final = 60.0
"""Seconds until a rebuild that could not be finished is tried again: it looks at every key."""
_WRONG_CLOCK: Final = timedelta(hours=6)
_TRIM_STEP: Final = 2_000
"""Positions that one call forgets at most."""


class LogMaintenance:
    """What one process does for the log beside reading it. Any thread may call any method."""

    def __init__(
        self,
        log: ChangeLog,
        revocations: Revocations,
        clock: Clock,
        event_log: EventLog,
        *,
        sent: Callable[[Sequence[Fact], Revision], bool],
    ) -> None:
        """
        Args:
            sent: told of facts (none = a part of all that is known) that a server has confirmed to be in its
                log up to this place; sees to it that they are owed again unless that place is read, and
                returns False where that is so already.
        """
        self._sent = sent
        self._log = log
        self._revocations = revocations
        self._clock = clock
        self._event_log = event_log
        self._lock = threading.Lock()
        self._unconfirmed: dict[Fact, None] = {}
        self._losses = 0
        self._made_good = 0
        self._marks: deque[tuple[float, int]] = deque()
        self._floor: int | None = None
        self._ended = datetime.min.replace(tzinfo=UTC)
        """Denials that ended before then count by no clock that is accepted."""
        self._incomplete = False
        self._rebuild_after = float("-inf")
        self._work = threading.Event()

    @property
    def unconfirmed(self) -> int:
        """How many facts the store has not confirmed."""
        return len(self._unconfirmed)

    def add_unconfirmed(self, fact: Fact) -> None:
        """Send this fact until the store has confirmed it. Beyond 10,000 the oldest are dropped."""
        with self._lock:
            self._unconfirmed[fact] = None
            if len(self._unconfirmed) > _OWED_AT_MOST:
                del self._unconfirmed[next(iter(self._unconfirmed))]
                self._event_log.record("resend_dropped")
        self._work.set()

    def owe_everything(self) -> None:
        """The log was replaced: send all that is known and still counts; the store takes what it lacks."""
        with self._lock:
            self._losses += 1
            self._marks.clear()
        self._work.set()

    def owe_rebuild(self) -> None:
        """The log has the mark: put back what the state holds, after all that this process knows."""
        with self._lock:
            if self._clock.monotonic() < self._rebuild_after:
                return
            self._incomplete = True
        self._work.set()

    def held(self, head: Head, position: int, time: datetime | None) -> None:
        """Everything up to `position` is known now: what was known for the retention may be forgotten.

        Args:
            head: of the heartbeat that says so.
            position: up to which all is known.
            time: by a wall clock that has held and that the store remembers; None = there is none, and
                nothing is trimmed: a clock that was set back may need it.
        """
        now, retention = self._clock.monotonic(), head.retention.total_seconds()
        with self._lock:
            if not self._marks or now - self._marks[-1][0] >= min(_MARK_EVERY, retention / 10):
                self._marks.append((now, position))
            while len(self._marks) > 1 and now - self._marks[1][0] >= retention > 0:
                self._marks.popleft()
            oldest, known = self._marks[0]
            if time is not None and retention and now - oldest >= retention and known > head.floor:
                self._floor = known
                self._ended = time - LONGEST_BACK
                self._work.set()

    def wait(self, timeout: float) -> None:
        """Return when there is something to do, or after `timeout` seconds."""
        self._work.wait(timeout)

    def wake(self) -> None:
        """End a `wait` in progress."""
        self._work.set()

    def do(self) -> None:
        """Do what there is to do.

        Raises UnavailableError: the store was away, its log was replaced again, or a server took the facts
        that is not the one whose log is read; nothing is forgotten.
        """
        self._work.clear()
        try:
            self._restore_owed()
            self._restore_everything()
            self._rebuild()
            self._trim()
        except BaseException:
            self._work.set()
            raise

    def _restore_owed(self) -> None:
        with self._lock:
            unconfirmed = list(self._unconfirmed)
        if not unconfirmed:
            return
        for chunk in _batched(unconfirmed, _CHUNK):
            end = self._log.restore(chunk).end
            with self._lock:
                for fact in chunk:
                    self._unconfirmed.pop(fact, None)
            self._require_followed(chunk, end)
        self._event_log.record("revocations_sent_again", count=len(unconfirmed))

    def _restore_everything(self) -> None:
        with self._lock:
            losses = self._losses
        if losses == self._made_good:
            return
        sent = absent = 0
        for chunk in _batched(self._revocations.facts(), _CHUNK):
            put_back = self._log.restore(chunk)
            self._require_followed((), put_back.end)
            sent += len(chunk)
            absent += put_back.absent
        self._made_good = losses
        self._event_log.record("log_repaired", known=sent, absent=absent)

    def _rebuild(self) -> None:
        with self._lock:
            wanted, self._incomplete = self._incomplete, False
        if not wanted or self._log.head().complete:  # another process may have been faster
            return
        try:
            self._event_log.record("log_rebuilt", facts=self._log.rebuild())
        except StoreDamagedError as error:
            self._rebuild_after = self._clock.monotonic() + _REBUILD_PAUSE
            self._event_log.record("log_incomplete", error=str(error))

    def _require_followed(self, facts: Sequence[Fact], end: Revision) -> None:
        """Raise StoreUnavailableError, and owe them again, if this place lies in another history."""
        if not self._sent(facts, end):
            raise StoreUnavailableError(
                "revocations were written to another history of the store than the one that is read; "
                "they are sent again"
            )

    def _trim(self) -> None:
        with self._lock:
            goal, self._floor = self._floor, None
        if goal is None:
            return
        head = self._log.head()
        floor = begun = head.floor
        goal = min(goal, head.position - 1)
        while floor < goal:
            step, keep = self._still_counting(floor, min(goal, floor + _TRIM_STEP))
            reached = self._log.trim(step, keep)
            if reached <= floor:
                break
            floor = reached
        if floor > begun:
            self._event_log.record("log_trimmed", entries=floor - begun)

    def _still_counting(self, floor: int, goal: int) -> tuple[int, Sequence[Fact]]:
        """Return how far to trim at once, and the denials up to there that a clock may need.

        There are none, unless tokens were issued or denied by a clock that was far ahead.
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
    """Cut into tuples of this size; the last may be shorter."""
    remaining = iter(facts)
    while chunk := tuple(islice(remaining, size)):
        yield chunk


def retention_for(longest_lifetime: timedelta, leeway: timedelta) -> timedelta:
    """How far a log must reach back, so that replaying it gives every denial that still counts.

    A bare id is denied for the longest lifetime and the leeway from now, rounded up to the minute. Six hours
    more: a clock that was wrong for a while, or is set back, must not have cost an entry that still counts.
    """
    return longest_lifetime + 2 * leeway + timedelta(minutes=10) + _WRONG_CLOCK
