"""The epoch and the time, which every write passes to its script, and the result of a write.

This module does not know keys and scripts.
"""

from identity_service.domain.ids import Epoch, Link
from identity_service.domain.log import Appended, Change, Revision
from identity_service.domain.ports import Clock
from identity_service.storage.redis.values import time_text


class Writing:
    """The source of the first arguments of all mutating scripts: the expected epoch and the time."""

    def __init__(self, clock: Clock | None) -> None:
        """Begin with an epoch that no store has; `clock` None = the scripts use the server's clock."""
        self._clock = clock
        self._epoch = Epoch("")  # no store has it, so that nothing is written before an epoch is adopted

    def adopt(self, epoch: Epoch) -> None:
        """Expect this epoch in every write from now on."""
        self._epoch = epoch

    def expected(self) -> Epoch:
        """Return the epoch that writes expect.

        The caller reads it once for each write: another thread may adopt a new epoch while the script runs.
        """
        return self._epoch

    def now(self) -> str:
        """Return the time as scripts take it, in Unix seconds; empty = they use the server's clock."""
        return "" if self._clock is None else time_text(self._clock.now())


def appended(
    epoch: Epoch, position: str, *changes: tuple[Change, Link], link: Link | None = None
) -> Appended:
    """Return the result of a write under `epoch`: the changes that its script appended, or found in the log.

    `link` is the link of the entry at the position; None = that of the last change.
    """
    there = changes[-1][1] if link is None else link
    return Appended(revision=Revision(epoch=epoch, position=int(position), link=there), changes=changes)
