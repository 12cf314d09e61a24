"""The use case Watch: queues the changes that the replica applies for every watcher.

The module holds the set of watchers and the last 10,000 changes, from which a watcher that reconnects is
served. Each message is rendered once for all watchers, and put into the queue of each (`watcher.py`). This
module sends nothing and uses no wire types.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, Protocol

from identity_service.domain.errors import UnavailableError
from identity_service.domain.ids import NO_LINK, Epoch, Link
from identity_service.domain.keys import PublishedKey
from identity_service.domain.log import (
    Change,
    Fact,
    GenerationRaised,
    RecordChanged,
    RecordKind,
    Revision,
)
from identity_service.domain.ports import Clock, ReplicaView
from identity_service.services.keyring import KeyRing
from identity_service.services.watch_snapshot import WatchSnapshot
from identity_service.services.watcher import Watcher

_CHUNK: Final = 2000
"""The number of facts in one message of a snapshot, which has about 150 KB."""
_RECENT: Final = 10_000
"""The number of changes that are kept for watchers that reconnect."""
_SHARED: Final = 30.0
"""The number of seconds for which one snapshot serves all new watchers: after a restart, all of them
reconnect at once."""


class Renderer(Protocol):
    """An encoder of messages for the transport. Encoded messages of changes may be concatenated."""

    def changes(self, changes: Sequence[tuple[Change, Link]], revision: Revision | None) -> bytes:
        """Encode changes; with `revision`, the watcher then knows everything up to it."""

    def restarted(self) -> bytes:
        """Encode the notice that everything live is sent from here on; the watcher does not know all yet."""

    def keys(self, keys: Sequence[PublishedKey]) -> bytes:
        """Encode the complete set of published keys."""

    def heartbeat(self, revision: Revision, time: datetime, staleness: float) -> bytes:
        """Encode a heartbeat: current revision, wall-clock time, and staleness in seconds."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Consecutive changes, and the position that a watcher has reached once it knows them."""

    position: int
    count: int
    """The number of the changes."""
    content: bytes | tuple[Sequence[tuple[Change, Link]], Revision]
    """The message with the changes, which takes a third of their memory. While no watcher has needed it: the
    changes with their links, and the revision after them, from which it is rendered."""


class WatchHub:
    """A distributor of changes to all watchers. Implements the port LogListener; thread-safe."""

    def __init__(
        self, replica: ReplicaView, keys: KeyRing, clock: Clock, renderer: Renderer, *, queue: int = 1000
    ) -> None:
        """Create a hub without watchers; a watcher for which more than `queue` messages wait overflows."""
        self._replica = replica
        self._keys = keys
        self._clock = clock
        self._renderer = renderer
        self._queue = queue
        self._lock = threading.Lock()
        self._watchers: set[Watcher] = set()
        self._recent: deque[_Batch] = deque()
        self._kept = 0
        self._begin: tuple[Epoch, int] | None = None
        """The epoch and the position after which `_recent` has all changes; None = the replica has reported
        none yet."""
        self._revision: Revision | None = None
        self._snapshot: WatchSnapshot | None = None

    def __len__(self) -> int:
        return len(self._watchers)

    def open(self, resume_after: Revision | None, ready: Callable[[Watcher], None]) -> Watcher:
        """Return a new watcher, which gets first the state or changes that it lacks, then each new change.

        Args:
            resume_after: the revision that the client has reached; None = it has none. If the changes since
                are not all kept, the watcher gets a snapshot instead.
            ready: called when the watcher has a message after it had none.

        Raises NotReadyError.
        """
        self._replica.require_ready()
        with self._lock:
            # Registered before the snapshot is made, so that changes are queued meanwhile. A change that is
            # in the snapshot too does no harm.
            watcher = Watcher(self._first_messages(resume_after), self._queue, ready)
            self._watchers.add(watcher)
        return watcher

    def close(self, watcher: Watcher) -> None:
        """Queue nothing more for this watcher. Idempotent."""
        with self._lock:
            self._watchers.discard(watcher)

    def send_heartbeats(self) -> None:
        """Send a heartbeat to every watcher that is waiting for a message.

        None is sent while the wall clock of this process is not accepted, because a heartbeat carries its
        time.
        """
        try:
            self._replica.require_clock()
        except UnavailableError:
            return
        staleness = self._replica.staleness
        with self._lock:
            if self._snapshot is not None and not self._serves(self._snapshot):
                self._snapshot = None
            # The revision that was last reported to this hub; the replica may be ahead of it by now. A client
            # that is cut off resumes at the heartbeat's revision, and would miss the changes in between.
            revision = self._revision or self._replica.revision
            message = self._renderer.heartbeat(revision, self._clock.now(), staleness)
            for watcher in self._watchers:
                watcher.put(message, optional=True)

    def on_changes(self, revision: Revision, changes: Sequence[tuple[Change, Link]]) -> None:
        """Keep the facts among these changes for reconnecting watchers, and queue them for all others."""
        facts = [(change, link) for change, link in changes if not isinstance(change, RecordChanged)]
        with self._lock:
            self._revision = revision
            message = self._renderer.changes(facts, revision) if self._watchers else None
            if self._begin is None:
                self._begin = (revision.epoch, revision.position)
            else:
                content = (facts, revision) if message is None else message
                self._keep(self._begin[0], _Batch(revision.position, len(facts), content))
            if message is not None:
                for watcher in self._watchers:
                    watcher.put(message)

    def on_log_replaced(self, revision: Revision) -> None:
        """Forget the changes of the old log, and queue a restart and all generations for every watcher."""
        with self._lock:
            self._recent.clear()
            self._kept = 0
            self._snapshot = None
            self._begin, self._revision = (revision.epoch, revision.position), revision
            if not self._watchers:
                return
            # Denials are queued as the log is read again. Generations may lack an entry there: queue all.
            messages = [self._renderer.restarted()]
            messages += [self._renderer.changes(chunk, None) for chunk in _chunks(self._generations())]
            for watcher in self._watchers:
                for message in messages:
                    watcher.put(message, alone=True)

    def on_records_changed(self, changes: Sequence[RecordChanged] | None) -> None:
        """Queue the keys if they may have changed (None = anything may have).

        The caller calls the method of the key ring first.
        """
        if changes is None or any(change.kind is RecordKind.KEY for change in changes):
            with self._lock:
                # Rendered while the lock is held, so that the last set that is queued is the newest one.
                message = self._renderer.keys(self._keys.published())
                for watcher in self._watchers:
                    watcher.put(message, alone=True)

    def _generations(self) -> Iterator[Fact]:
        for principal, generation in list(self._replica.revocations.generations.items()):
            yield GenerationRaised(principal=principal, number=generation.number, origin=generation.link)

    def _keep(self, epoch: Epoch, batch: _Batch) -> None:
        self._recent.append(batch)
        self._kept += 1 + batch.count
        while self._kept > _RECENT:
            oldest = self._recent.popleft()
            self._kept -= 1 + oldest.count
            self._begin = (epoch, oldest.position)

    def _first_messages(self, resume_after: Revision | None) -> Iterator[bytes]:
        """Return the messages that precede new changes: the missed ones or a snapshot, rendered lazily."""
        revision = self._revision or self._replica.revision
        if resume_after is not None and self._resumes(resume_after, revision):
            return self._opening_messages(None, self._since(resume_after), revision)
        snapshot = self._snapshot
        if snapshot is None or not self._serves(snapshot):
            facts = _chunks(self._replica.revocations.facts())
            messages = (self._renderer.changes(chunk, None) for chunk in facts)
            snapshot = self._snapshot = WatchSnapshot(revision, self._clock.monotonic(), messages)
        return self._opening_messages(snapshot, self._since(snapshot.revision), revision)

    def _resumes(self, place: Revision, end: Revision) -> bool:
        """Return whether a watcher that has reached this revision can be served from the kept changes.

        A revision with the same epoch and position may be of another history, in which other entries precede
        it; so the replica must recognise its link.
        """
        return self._replica.recognises(place) and self._reaches(place, end)

    def _reaches(self, place: Revision, end: Revision) -> bool:
        """Return whether all changes after this revision that were reported to this hub are kept."""
        begin = self._begin
        return begin is not None and place.epoch == begin[0] and begin[1] <= place.position <= end.position

    def _serves(self, snapshot: WatchSnapshot) -> bool:
        """Return whether a new watcher may begin with this snapshot: not failed, not too old."""
        if self._revision is None or not self._reaches(snapshot.revision, self._revision):
            return False
        return not snapshot.broken and self._clock.monotonic() - snapshot.time < _SHARED

    def _since(self, place: Revision) -> Sequence[_Batch]:
        return [batch for batch in self._recent if batch.position > place.position]

    def _opening_messages(
        self, snapshot: WatchSnapshot | None, missed: Sequence[_Batch], revision: Revision
    ) -> Iterator[bytes]:
        if snapshot is not None:
            yield self._renderer.restarted()
        yield self._renderer.keys(self._keys.published())
        yield from snapshot or ()
        for batch in missed:
            content = batch.content
            yield content if isinstance(content, bytes) else self._renderer.changes(*content)
        yield self._renderer.changes((), revision)


def _chunks(facts: Iterator[Fact]) -> Iterator[Sequence[tuple[Change, Link]]]:
    """Yield the facts in chunks of one message each, with NO_LINK: a raised generation names its own link."""
    while chunk := [(fact, NO_LINK) for fact in islice(facts, _CHUNK)]:
        yield chunk
