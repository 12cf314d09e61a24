"""The history that a process follows: the links of the entries that it read last, by their positions.

Epoch and position alone cannot tell whether a place lies in it: a log that is put back by hand keeps its
epoch and gives the same positions to other entries. Knows no store.
"""

from collections.abc import Iterable
from typing import Final

from identity_service.domain.ids import NO_LINK, Epoch, Link
from identity_service.domain.log import LogEntry, Revision

_KEPT: Final = 10_000
"""Positions whose links are kept, about 2 MB: as many as there are changes for a watcher that reconnects."""


class History:
    """The last 10,000 positions that were read of one log. One thread adds, any thread may ask."""

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        self._ring: list[tuple[int, Link]] = [(0, NO_LINK)] * _KEPT

    def add(self, entries: Iterable[LogEntry], end: Revision) -> None:
        """Remember these entries, and the place up to which everything has been read with them."""
        ring = self._ring
        for entry in entries:
            position = entry.position
            ring[position % _KEPT] = (position, entry.link)
        ring[end.position % _KEPT] = (end.position, end.link or NO_LINK)

    def link_at(self, position: int) -> Link | None:
        """Return the link of the entry that was read at this position; None = unknown, perhaps by now."""
        if position == 0:
            return NO_LINK  # the start, which every history has
        held, link = self._ring[position % _KEPT]
        return link if held == position else None

    def holds(self, revision: Revision) -> bool:
        """Whether this place was read, and is known to lie in this history."""
        link = revision.link
        return link is not None and revision.epoch == self.epoch and link == self.link_at(revision.position)
