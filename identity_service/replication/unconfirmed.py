"""What this process wrote and has not yet read back: a failover may drop it without anybody seeing a loss.

The log then matches what everyone had read, and another entry takes the position. The follower may also read
an entry before its writer comes to remember it here. While a deposed primary still takes writes, two servers
may each acknowledge a write at the same position, and confirm a repetition of their own. Knows no store.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from identity_service.domain.ids import NO_LINK, Epoch, Link
from identity_service.domain.log import Appended, Fact, GenerationRaised, Head, RecordChanged, Revision
from identity_service.replication.history import History


@dataclass(frozen=True, slots=True)
class _Written:
    """Facts, and the entry that must be read so that they are known to be in the log."""

    position: int
    link: Link
    facts: tuple[Fact, ...]
    """Empty: a part of everything that was known then."""


@dataclass(slots=True)
class Missing:
    """Own facts that the store is sent again."""

    lost: list[Fact] = field(default_factory=list)
    """The log has another entry in their place, or ends before it: an acknowledged write is gone."""
    unsure: list[Fact] = field(default_factory=list)
    """Their place was read too long ago to compare, or in another log: most likely they are there."""
    repairs: int = 0
    """How many parts of a repair are not known to be there."""

    def __bool__(self) -> bool:
        return bool(self.lost or self.unsure or self.repairs)


class UnconfirmedWrites:
    """Remembers own writes by their entries, in one log. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._history = History(Epoch(""))
        self._end = 0
        """Up to where that log has been read; `_history` knows the last links of it."""
        self._written: dict[_Written, float] = {}
        """When each was last acknowledged, on the steady clock."""

    def add(self, appended: Appended, time: float) -> Missing:
        """Remember facts that were acknowledged at `time` of the steady clock.

        Returns those that are missing already: the follower may have read their places before.
        """
        missing = Missing()
        revision = appended.revision
        first = revision.position - len(appended.changes) + 1
        # A raise that is repeated under another epoch names the end of the log, where another entry stands.
        placed = appended.changes[-1][1] == revision.link
        with self._lock:
            placed = placed and revision.epoch == self._history.epoch
            for position, (change, link) in enumerate(appended.changes, first):
                if isinstance(change, RecordChanged):
                    continue  # no fact: of records, what the store has is what counts
                fact: Fact = change
                if isinstance(change, GenerationRaised):
                    fact = replace(change, origin=change.origin or link)
                if placed:
                    self._await(_Written(position, link, (fact,)), time, missing)
                else:
                    missing.unsure.append(fact)
        return missing

    def sent(self, facts: Sequence[Fact], end: Revision, time: float) -> Missing:
        """Remember facts that the store was sent again, which its log held up to `end` at that time.

        No facts = a part of a repair. Returns them where that end is known to lie in another history.
        """
        missing = Missing()
        with self._lock:
            if end.epoch == self._history.epoch:
                self._await(_Written(end.position, end.link or NO_LINK, tuple(facts)), time, missing)
            else:
                # What is known when another log is found is sent to it: this may have come to be known later.
                missing.unsure.extend(facts)
        return missing

    def read(self, end: int) -> Missing:
        """Everything up to `end` has been read, and is in the history: forget what stands there."""
        with self._lock:
            self._end = end
            if not self._written:
                return Missing()
            return self._take(lambda written, _: written.position <= end, self._compare)

    def beaten(self, head: Head, sent: float) -> Missing:
        """Give what a store that answered a heartbeat, sent at that time, no longer counts."""
        with self._lock:
            if not self._written or head.epoch != self._history.epoch:
                return Missing()
            return self._take(
                lambda written, time: written.position > head.position and time <= sent,
                _is_lost,
            )

    def begin(self, history: History) -> None:
        """A log is read from its start; if it is another one, all that is known is sent to it anyway."""
        with self._lock:
            if history.epoch != self._history.epoch:
                self._written.clear()
            self._history, self._end = history, 0

    def _await(self, written: _Written, time: float, missing: Missing) -> None:
        """Judge it at once where its place was read before, else once that is read."""
        if written.position <= self._end:
            self._compare(written, missing)
        else:
            self._written[written] = time

    def _compare(self, written: _Written, missing: Missing) -> None:
        """Hold a write against what was read at its position."""
        read = self._history.link_at(written.position)
        if read is None and written.facts:
            missing.unsure.extend(written.facts)
        elif read != written.link:
            _is_lost(written, missing)

    def _take(
        self, chosen: Callable[[_Written, float], bool], judge: Callable[[_Written, Missing], None]
    ) -> Missing:
        missing = Missing()
        for written, time in list(self._written.items()):
            if chosen(written, time):
                del self._written[written]
                judge(written, missing)
        return missing


def _is_lost(written: _Written, missing: Missing) -> None:
    missing.lost.extend(written.facts)
    if not written.facts:
        missing.repairs += 1
