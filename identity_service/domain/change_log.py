"""The ports of the change log: for its readers, for the replica of a process, and for listeners to that.

The module contains no implementation; `store.py` has the promises of all parts of a store, and `log.py` the
values.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

from identity_service.domain.ids import Epoch, Link, PrincipalId
from identity_service.domain.log import (
    Change,
    Fact,
    Generation,
    Head,
    Heartbeat,
    LogEntry,
    LogPage,
    Marks,
    RepairResult,
    Revision,
)

NO_MARKS: Final = Marks()
STATUS_LENGTH: Final = 200
"""The number of characters of a heartbeat's status that the store keeps."""


class ReadableLog(Protocol):
    """The change log for its readers; no method changes anything."""

    def head(self) -> Head:
        """Return the current end of the log. Raises StoreUninitializedError if the store has no epoch."""

    def read(self, after: int, limit: int) -> LogPage:
        """Return at most `limit` entries after position `after`, oldest first, with the head.

        The head is that of the same moment.
        """

    def read_entries(self, after: int, limit: int) -> tuple[LogEntry, ...]:
        """Return the same entries as `read`, without the head, which costs the store less."""

    def wait(self, after: int, timeout: float) -> None:
        """Return when there may be entries after `after`, or after `timeout` seconds. May return early."""

    def heartbeats(self) -> Sequence[Heartbeat]:
        """Return the last heartbeat of each process that wrote one in the last hour, the latest first."""

    def generations(self) -> Mapping[PrincipalId, Generation]:
        """Return the generation of every principal whose generation was ever raised.

        Generations never expire, so the log need not reach back to the entries that raised them.
        """


class ChangeLog(ReadableLog, Protocol):
    """The change log for the replica of a process, which reads it, proves that it can, and maintains it."""

    def heartbeat(
        self, process: str, retention: timedelta = timedelta(0), *, marks: Marks = NO_MARKS, status: str = ""
    ) -> Head:
        """Write this process's heartbeat, have the store confirm it, and return the head.

        In the same step the log's retention becomes at least `retention`, and the store's marks at least
        `marks`. `status` says how the process sees its clock and the store; its first 200 characters are
        kept. Raises NotConfirmedError.
        """

    def adopt(self, epoch: Epoch) -> None:
        """Expect this epoch in every later mutation, whichever part of the store makes it."""

    def renew(self, found: Epoch | None, epoch: Epoch) -> Epoch:
        """Give the log this epoch if it still has the epoch `found` (None = it has lost its epoch).

        From then on every entry up to the end of the log may be missing (`Head.floor`). Returns the epoch
        that the log then has: this one, or the epoch that another process set first.
        """

    def repair(self, facts: Sequence[Fact]) -> RepairResult:
        """Append those facts that the log lacks, each once (repair). A generation needs its `origin`.

        The write is confirmed as every mutation is: by the server that was asked, even if that server is no
        longer the primary. Raises StoreReplacedError if the store has another epoch.
        """

    def rebuild(self) -> int:
        """Append the facts that the state holds and the log lacks, then set `Head.complete`.

        That is every denial and every ended session without an entry; and conversely, the state gets every
        generation that an entry raised and the state lacks. Returns how many facts were missing. Repeating it
        is safe, even from several processes at once; if a process dies halfway, `Head.complete` stays False.

        Raises StoreReplacedError if the store has another epoch than the one adopted, StoreUnavailableError
        if entries vanish meanwhile, StoreDamagedError if the store is known to have held generations of which
        nothing in it is left.
        """

    def trim(self, position: int, keep: Sequence[Fact] = ()) -> int:
        """Delete the entries up to `position` if the entry there is older than the retention.

        In the same step `keep`, the facts of these entries that still count, are appended again. Returns the
        floor of the log. Never deletes the last entry.
        """


class LogListener(Protocol):
    """A listener to the entries that a replica applies, in the order of the log.

    Its methods return at once.
    """

    def on_changes(self, revision: Revision, changes: Sequence[tuple[Change, Link]]) -> None:
        """Handle changes that the replica has applied, and with them everything up to `revision`.

        Each change comes with the link of its entry.
        """

    def on_log_replaced(self, revision: Revision) -> None:
        """Handle the replacement of the log, which is being read again from its start.

        Facts known before stay known.
        """
