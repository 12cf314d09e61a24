"""What every write names (the epoch, the time) and what comes of it. Knows no key and no script."""

from identity_service.domain.ids import Epoch, Link
from identity_service.domain.log import Appended, Change, Revision
from identity_service.domain.ports import Clock
from identity_service.storage.redis.values import time_text


class Writing:
    """The arguments that all mutating scripts begin with."""

    def __init__(self, clock: Clock | None) -> None:
        """`clock` None = the server's own time."""
        self._clock = clock
        self._epoch = Epoch("")  # no store has it, so that nothing is written before one is adopted

    def adopt(self, epoch: Epoch) -> None:
        self._epoch = epoch

    def expected(self) -> Epoch:
        """Read it once for each write: another thread may adopt a new epoch while the script runs."""
        return self._epoch

    def now(self) -> str:
        """What scripts take for the time; empty = the server's clock."""
        return "" if self._clock is None else time_text(self._clock.now())


def appended(
    epoch: Epoch, position: str, *changes: tuple[Change, Link], link: Link | None = None
) -> Appended:
    """Return what a script that was given `epoch` has put into the log, or found there.

    `link` is that of the entry at the position; None = the last change's.
    """
    there = changes[-1][1] if link is None else link
    return Appended(revision=Revision(epoch=epoch, position=int(position), link=there), changes=changes)
