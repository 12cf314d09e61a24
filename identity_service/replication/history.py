"""The links of the entries that a process read last: they show whether a revision lies in its history.

Epoch and position are not enough: a log that was restored by hand keeps its epoch but gives the same
positions to other entries. The module knows no store.
"""

from collections.abc import Iterable
from typing import Final

from identity_service.domain.ids import NO_LINK, Epoch, Link
from identity_service.domain.log import LogEntry, Revision

_KEPT: Final = 10_000
"""The number of positions whose links are kept, about 2 MB. The changes for watchers that reconnect are kept
for as many positions."""


class History:
    """The links of the last 10,000 positions read of one log. One thread adds; any thread may look up."""

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        self._ring: list[tuple[int, Link]] = [(0, NO_LINK)] * _KEPT

    def add(self, entries: Iterable[LogEntry], end: Revision) -> None:
        """Remember the links of these entries, and that of `end`, up to which the log has now been read."""
        ring = self._ring
        for entry in entries:
            position = entry.position
            ring[position % _KEPT] = (position, entry.link)
        ring[end.position % _KEPT] = (end.position, end.link or NO_LINK)

    def link_at(self, position: int) -> Link | None:
        """Return the link of the entry that was read at this position.

        None means that the position was not read, or that it was read more than 10,000 positions ago.
        """
        if position == 0:
            return NO_LINK  # the start of the log, which every history shares
        held, link = self._ring[position % _KEPT]
        return link if held == position else None

    def holds(self, revision: Revision) -> bool:
        """Return whether the entry of this revision was read in this history, and is still remembered."""
        link = revision.link
        return link is not None and revision.epoch == self.epoch and link == self.link_at(revision.position)
