"""The writes of this process that it has not read back yet: a failover may drop an acknowledged write.

Readers cannot notice such a loss: the log still matches the entries that they had read, and another entry
takes the position. The follower may read an entry before its writer registers it here. While a former
primary still accepts writes, two servers may each acknowledge a write at the same position, and each may
confirm a repetition of its own write. The module knows no store.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from identity_service.domain.ids import NO_LINK, Epoch, Link
from identity_service.domain.log import Appended, Fact, GenerationRaised, Head, RecordChanged, Revision
from identity_service.replication.history import History


@dataclass(frozen=True, slots=True)
class _TrackedWrite:
    """Facts that a server acknowledged, and the entry that proves that they are in the log."""

    position: int
    link: Link
    facts: tuple[Fact, ...]
    """The facts; empty = the write is a part of a repair, which sends everything that was known then."""


@dataclass(slots=True)
class Missing:
    """The acknowledged facts that have to be sent to the store again."""

    lost: list[Fact] = field(default_factory=list)
    """Facts whose acknowledged write is gone: the log has another entry at their position, or ends before
    it."""
    unsure: list[Fact] = field(default_factory=list)
    """Facts whose position was read too long ago to compare, or in another log. Most likely the store has
    them."""
    repairs: int = 0
    """The number of parts of a repair that the store may lack."""

    def __bool__(self) -> bool:
        return bool(self.lost or self.unsure or self.repairs)


class UnconfirmedWrites:
    """The acknowledged writes of this process to one log, by position. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._history = History(Epoch(""))
        self._end = 0
        """The position up to which the log has been read; `_history` knows its last links."""
        self._written: dict[_TrackedWrite, float] = {}
        """The time at which each write was acknowledged last (monotonic clock)."""

    def add(self, appended: Appended, time: float) -> Missing:
        """Remember facts that the store acknowledged at `time` (monotonic clock).

        Returns those that are missing already: the follower may have read their positions before.
        """
        missing = Missing()
        revision = appended.revision
        first = revision.position - len(appended.changes) + 1
        # A raise that is repeated under another epoch returns the end of the log, which is another entry.
        placed = appended.changes[-1][1] == revision.link
        with self._lock:
            placed = placed and revision.epoch == self._history.epoch
            for position, (change, link) in enumerate(appended.changes, first):
                if isinstance(change, RecordChanged):
                    continue  # not a fact: the record in the store is authoritative
                fact: Fact = change
                if isinstance(change, GenerationRaised):
                    fact = replace(change, origin=change.origin or link)
                if placed:
                    self._track(_TrackedWrite(position, link, (fact,)), time, missing)
                else:
                    missing.unsure.append(fact)
        return missing

    def add_resent(self, facts: Sequence[Fact], end: Revision, time: float) -> Missing:
        """Remember facts that were sent again at `time`; the store's log holds them up to `end`.

        No facts = a part of a repair. Returns the facts if `end` is known to lie in another history.
        """
        missing = Missing()
        with self._lock:
            if end.epoch == self._history.epoch:
                self._track(_TrackedWrite(end.position, end.link or NO_LINK, tuple(facts)), time, missing)
            else:
                # When another log is found, a repair sends what is known then. This fact may be newer.
                missing.unsure.extend(facts)
        return missing

    def read(self, end: int) -> Missing:
        """Forget the writes up to position `end`, which has been read; returns those that the log lacks."""
        with self._lock:
            self._end = end
            if not self._written:
                return Missing()
            return self._remove_where(lambda written, _: written.position <= end, self._compare)

    def after_heartbeat(self, head: Head, sent: float) -> Missing:
        """Return the writes acknowledged before this heartbeat was sent that lie beyond the store's head.

        Args:
            head: the head that the heartbeat returned.
            sent: when the heartbeat was sent (monotonic clock).
        """
        with self._lock:
            if not self._written or head.epoch != self._history.epoch:
                return Missing()
            return self._remove_where(
                lambda written, time: written.position > head.position and time <= sent, _add_lost
            )

    def begin(self, history: History) -> None:
        """Begin at the start of a log; if it is another log, forget the writes to the previous one.

        A repair sends every known fact to the new log, so none of them is lost.
        """
        with self._lock:
            if history.epoch != self._history.epoch:
                self._written.clear()
            self._history, self._end = history, 0

    def _track(self, written: _TrackedWrite, time: float, missing: Missing) -> None:
        """Compare the write at once if its position was read before, else remember it until then."""
        if written.position <= self._end:
            self._compare(written, missing)
        else:
            self._written[written] = time

    def _compare(self, written: _TrackedWrite, missing: Missing) -> None:
        """Compare the link of a write with the link that was read at its position."""
        read = self._history.link_at(written.position)
        if read is None and written.facts:
            missing.unsure.extend(written.facts)
        elif read != written.link:
            _add_lost(written, missing)

    def _remove_where(
        self, chosen: Callable[[_TrackedWrite, float], bool], judge: Callable[[_TrackedWrite, Missing], None]
    ) -> Missing:
        """Remove the writes that `chosen` selects, and let `judge` add each to the result."""
        missing = Missing()
        for written, time in list(self._written.items()):
            if chosen(written, time):
                del self._written[written]
                judge(written, missing)
        return missing


def _add_lost(written: _TrackedWrite, missing: Missing) -> None:
    """Add the facts of this write to the lost ones; without facts, count a lost part of a repair."""
    missing.lost.extend(written.facts)
    if not written.facts:
        missing.repairs += 1
