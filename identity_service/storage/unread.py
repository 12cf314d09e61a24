"""What this process wrote and has not yet read back: a failover may drop it without anybody seeing a loss.

The log then matches what everyone had read, and another entry takes the position. Knows no store.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from identity_service.domain.ids import Epoch, Link
from identity_service.domain.log import Appended, Fact, GenerationRaised, Head, LogEntry, RecordChanged


@dataclass(frozen=True, slots=True)
class _Written:
    """A fact, the entry that should hold it, and when that was acknowledged."""

    fact: Fact
    link: Link
    time: float


class Unread:
    """Remembers own writes by their positions, of one epoch. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epoch = Epoch("")
        self._written: dict[int, _Written] = {}

    def add(self, appended: Appended, time: float) -> None:
        """Remember facts that were acknowledged at `time` of the steady clock."""
        first = appended.revision.position - len(appended.changes) + 1
        with self._lock:
            if appended.revision.epoch != self._epoch:
                return  # every fact is sent to a log that has replaced the one it was written to
            for position, (change, link) in enumerate(appended.changes, first):
                if isinstance(change, RecordChanged):
                    continue  # no fact: of records, what the store has is what counts
                fact: Fact = change
                if isinstance(change, GenerationRaised):
                    fact = replace(change, origin=change.origin or link)
                self._written[position] = _Written(fact, link, time)

    def read(self, entries: Sequence[LogEntry], end: int) -> list[Fact]:
        """Forget what stands up to `end`, and give what does not: another entry has its place, or none."""
        if not self._written:
            return []
        links = {entry.position: entry.link for entry in entries}
        return self._take(lambda position, _: position <= end, links)

    def beaten(self, head: Head, sent: float) -> list[Fact]:
        """Give what a store that answered a heartbeat, sent at that time, no longer counts."""
        if not self._written or head.epoch != self._epoch:
            return []
        return self._take(lambda position, written: position > head.position and written.time <= sent, {})

    def begin(self, epoch: Epoch) -> None:
        """Another log is followed from now on; what is known is sent to it anyway."""
        with self._lock:
            if epoch != self._epoch:
                self._epoch = epoch
                self._written.clear()

    def _take(self, chosen: Callable[[int, _Written], bool], links: dict[int, Link]) -> list[Fact]:
        lost = []
        with self._lock:
            for position, written in list(self._written.items()):
                if chosen(position, written):
                    del self._written[position]
                    if links.get(position) != written.link:
                        lost.append(written.fact)
        return lost
