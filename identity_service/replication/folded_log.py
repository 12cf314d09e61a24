"""The change log as it is folded into memory: the known facts, and the revision up to which they are known.

The module reads no log (`replica.py` does). It has the facts sent again that the store may lack.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from identity_service.domain.change_log import ChangeLog, LogListener
from identity_service.domain.ids import NO_LINK, Epoch, PrincipalId
from identity_service.domain.log import Appended, Change, Fact, Generation, LogPage, RecordChanged, Revision
from identity_service.domain.ports import Clock, EventLog
from identity_service.domain.revocations import Revocations
from identity_service.replication.history import History
from identity_service.replication.maintenance import LogMaintenance
from identity_service.replication.rate_limited_event import RateLimitedEvent
from identity_service.replication.unconfirmed import Missing, UnconfirmedWrites

Generations = Mapping[PrincipalId, Generation]
OnRecordsChanged = Callable[[Sequence[RecordChanged] | None], None]


class FoldedLog:
    """The facts of one change log in memory. Any thread may read; one at a time folds."""

    def __init__(self, log: ChangeLog, clock: Clock, event_log: EventLog) -> None:
        """Begin without any fact; `log` is the log that the maintenance writes to."""
        self._clock = clock
        self._event_log = event_log
        self.revocations = Revocations()
        """The denials and generations that are known."""
        self.revision = Revision(epoch=Epoch(""), position=0, link=NO_LINK)
        """The revision up to which everything of the log is known."""
        self._callbacks: list[OnRecordsChanged] = []
        self._listeners: list[LogListener] = []
        self._folding = threading.Lock()
        self._history = History(Epoch(""))
        self._own_writes = UnconfirmedWrites()
        self._unrecognised = RateLimitedEvent("revision_unrecognised", event_log, clock)
        self.maintenance = LogMaintenance(log, self.revocations, clock, event_log, sent=self._sent)

    def subscribe(self, on_records_changed: OnRecordsChanged) -> None:
        """Call `on_records_changed` with the changes of records before the revision passes them.

        The changes that are read together come in one call, since some callbacks then read all records of a
        kind. The argument None means that any record may have changed.
        """
        self._callbacks.append(on_records_changed)

    def follow(self, listener: LogListener) -> None:
        """Notify this listener of everything that is folded from now on."""
        self._listeners.append(listener)

    def recognises(self, revision: Revision) -> bool:
        """Return whether this revision was read in the history that is followed.

        If it was not, or was read more than 10,000 positions ago, an event is recorded, at most once a
        minute.
        """
        if self._history.holds(revision):
            return True
        self._unrecognised.happened()
        return False

    def learn(self, appended: Appended) -> None:
        """Fold the changes that this process wrote, at once; the revision does not move."""
        with self._folding:
            for change, link in appended.changes:
                self.revocations.apply(change, link)
        # Only after the changes are folded: a repair of a new epoch sends the facts known when it begins, and
        # this call reports those that were folded after that.
        self._send_again(self._own_writes.add(appended, self._clock.monotonic()))
        self._notify_of(change for change, _ in appended.changes)

    def add_unconfirmed(self, fact: Fact) -> None:
        """Enforce this fact at once, and send it again until the store confirms it."""
        with self._folding:
            self.revocations.apply(fact, NO_LINK)
        self.maintenance.add_unconfirmed(fact)

    def _begin_history(self, epoch: Epoch, generations: Generations, known_before: Generations) -> None:
        """Prepare to fold a log from its start. All known facts stay known.

        The generations are those of `Revocations.begin_history`.
        """
        with self._folding:
            self.revocations.begin_history(generations, known_before)
        self._notify(None)
        self._history = History(epoch)
        self._own_writes.begin(self._history)
        self.revision = Revision(epoch=epoch, position=0, link=NO_LINK)
        for listener in self._listeners:
            listener.on_log_replaced(self.revision)

    def _fold(self, page: LogPage, revision: Revision) -> None:
        """Fold one page: apply its changes, call the callbacks, move the revision, notify listeners."""
        with self._folding:
            for entry in page.entries:
                self.revocations.apply(entry.change, entry.link)
        self._notify_of(entry.change for entry in page.entries)
        self._history.add(page.entries, revision)
        # Entries at the end may be missing: the revision moves past them all the same, for watchers too.
        moved, self.revision = revision != self.revision, revision
        self._send_again(self._own_writes.read(revision.position))
        if moved and self._listeners:
            changes = [(entry.change, entry.link) for entry in page.entries]
            for listener in self._listeners:
                listener.on_changes(self.revision, changes)

    def _send_again(self, missing: Missing) -> None:
        """Resend the acknowledged facts that the log lacks or may lack."""
        if missing.lost:
            self._event_log.record("own_writes_lost", count=len(missing.lost))
        for fact in (*missing.lost, *missing.unsure):
            self.maintenance.add_unconfirmed(fact)
        if missing.repairs:
            self.maintenance.request_repair()

    def _sent(self, facts: Sequence[Fact], end: Revision) -> bool:
        """Remember that a server confirmed these facts up to `end`; returns False if they are sent again."""
        missing = self._own_writes.add_resent(facts, end, self._clock.monotonic())
        self._send_again(missing)
        return not missing

    def _notify_of(self, changes: Iterable[Change]) -> None:
        """Call every callback of `subscribe` with the changes of records among these, if there are any."""
        if of_records := [change for change in changes if isinstance(change, RecordChanged)]:
            self._notify(of_records)

    def _notify(self, changes: Sequence[RecordChanged] | None) -> None:
        """Call every callback of `subscribe`."""
        for callback in self._callbacks:
            callback(changes)
