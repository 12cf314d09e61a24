"""What this process wrote and has not yet read back: a failover may drop it without anybody seeing a loss.

The log then matches what everyone had read, and another entry takes the position. The follower may also read
an entry before its writer comes to remember it here. Knows no store.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from identity_service.domain.ids import Epoch, Link
from identity_service.domain.log import Appended, Fact, GenerationRaised, Head, RecordChanged
from identity_service.storage.history import History


@dataclass(frozen=True, slots=True)
class _Written:
    """A fact, the entry that should hold it, and when that was acknowledged."""

    fact: Fact
    link: Link
    time: float


@dataclass(frozen=True, slots=True)
class Missing:
    """Own facts that the store is sent again."""

    lost: list[Fact] = field(default_factory=list)
    """The log has another entry in their place, or ends before it: an acknowledged write is gone."""
    unsure: list[Fact] = field(default_factory=list)
    """Their place was read too long ago to compare, or in another log: most likely they are there."""


class Unread:
    """Remembers own writes by their positions, of one log. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._history = History(Epoch(""))
        self._end = 0
        """Up to where that log has been read; `_history` knows the last links of it."""
        self._written: dict[int, _Written] = {}

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
                written = _Written(fact, link, time)
                if not placed:
                    missing.unsure.append(fact)
                elif position <= self._end:
                    self._compare(position, written, missing)
                else:
                    self._written[position] = written
        return missing

    def read(self, end: int) -> Missing:
        """Everything up to `end` has been read, and is in the history: forget what stands there."""
        with self._lock:
            self._end = end
            if not self._written:
                return Missing()
            return self._take(lambda position, _: position <= end, self._compare)

    def beaten(self, head: Head, sent: float) -> Missing:
        """Give what a store that answered a heartbeat, sent at that time, no longer counts."""
        with self._lock:
            if not self._written or head.epoch != self._history.epoch:
                return Missing()
            return self._take(
                lambda position, written: position > head.position and written.time <= sent,
                lambda _, written, missing: missing.lost.append(written.fact),
            )

    def begin(self, history: History) -> None:
        """A log is read from its start; if it is another one, all that is known is sent to it anyway."""
        with self._lock:
            if history.epoch != self._history.epoch:
                self._written.clear()
            self._history, self._end = history, 0

    def _compare(self, position: int, written: _Written, missing: Missing) -> None:
        """Hold a write against what was read at its position."""
        read = self._history.link_at(position)
        if read is None:
            missing.unsure.append(written.fact)
        elif read != written.link:
            missing.lost.append(written.fact)

    def _take(
        self,
        chosen: Callable[[int, _Written], bool],
        judge: Callable[[int, _Written, Missing], None],
    ) -> Missing:
        missing = Missing()
        for position, written in list(self._written.items()):
            if chosen(position, written):
                del self._written[position]
                judge(position, written, missing)
        return missing
