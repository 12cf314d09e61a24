"""The links of the entries that a process read last: they show whether a revision lies in its history.

Epoch and position are not enough: a log that was restored by hand keeps its epoch but gives the same
positions to other entries. The module knows no store.
"""

from array import array
from collections.abc import Iterable
from typing import Final

from identity_service.domain.ids import NO_LINK, Epoch, Link
from identity_service.domain.log import LogEntry, Revision

_KEPT: Final = 10_000
"""The number of positions whose links are kept, about 1 MB. The changes for watchers that reconnect are kept
for as many positions."""


class History:
    """The links of the last 10,000 positions read of one log. One thread adds; any thread may look up."""

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        # An array and a list, which take less than half of the memory of tuples.
        self._positions = array("q", [0]) * _KEPT
        self._links = [NO_LINK] * _KEPT

    def add(self, entries: Iterable[LogEntry], end: Revision) -> None:
        """Remember the links of these entries, and that of `end`, up to which the log has now been read."""
        for entry in entries:
            self._set(entry.position, entry.link)
        self._set(end.position, end.link or NO_LINK)

    def link_at(self, position: int) -> Link | None:
        """Return the link of the entry that was read at this position.

        None means that the position was not read, or that it was read more than 10,000 positions ago.
        """
        if position == 0:
            return NO_LINK  # the start of the log, which every history shares
        slot = position % _KEPT
        if self._positions[slot] != position:
            return None
        link = self._links[slot]
        return link if self._positions[slot] == position else None  # unless it is being overwritten

    def _set(self, position: int, link: Link) -> None:
        if self.link_at(position) == link:
            return
        slot = position % _KEPT
        self._positions[slot] = 0  # first, so that no thread takes the link of one entry for that of another
        self._links[slot] = link
        self._positions[slot] = position

    def holds(self, revision: Revision) -> bool:
        """Return whether the entry of this revision was read in this history, and is still remembered."""
        link = revision.link
        return link is not None and revision.epoch == self.epoch and link == self.link_at(revision.position)
