"""Watch: hands on to watchers what the replica folds, each change rendered once for all of them.

Owns who watches, what each has still to be sent, and how far back a reconnecting watcher can be served
from memory. Sends nothing itself (the door's senders do) and knows no wire type.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, Protocol

from identity_service.domain.errors import UnavailableError
from identity_service.domain.ids import NO_LINK, Link
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
from identity_service.services.watch_snapshot import Snapshot

_CHUNK: Final = 2000
"""Facts in one message of a snapshot: about 150 KB."""
_RECENT: Final = 10_000
"""Changes that are kept for those who reconnect."""
_SHARED: Final = 30.0
"""Seconds for which a snapshot serves those who come later: after a restart all come at once."""
_MESSAGE: Final = 256 * 1024
"""Bytes from which on no more waiting messages are joined to one."""


class Renderer(Protocol):
    """How the door writes messages. Messages of changes may be joined end to end."""

    def changes(self, changes: Sequence[tuple[Change, Link]], revision: Revision | None) -> bytes: ...

    def restarted(self) -> bytes: ...

    def keys(self, keys: Sequence[PublishedKey]) -> bytes: ...

    def heartbeat(self, revision: Revision, time: datetime, staleness: float) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """The bounds of watching."""

    queue: int = 1000
    """Messages that one watcher may have waiting."""


class Watcher:
    """What one watcher has still to be sent. One thread at a time takes from it."""

    def __init__(self, snapshot: Iterator[bytes], limit: int, ready: Callable[["Watcher"], None]) -> None:
        self._snapshot: Iterator[bytes] | None = snapshot
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._limit = limit
        self._ready = ready
        self._lock = threading.Lock()
        self._idle = False
        self.overflowed = False

    def put(self, message: bytes, *, optional: bool = False, alone: bool = False) -> None:
        """Add a message; an optional one only where nothing waits. One that goes alone is not joined."""
        with self._lock:
            if self.overflowed or (optional and not self._idle):
                return
            self.overflowed = len(self._queue) >= self._limit
            if not self.overflowed:
                self._queue.append((message, alone))
            wake, self._idle = self._idle, False
        if wake:
            self._ready(self)

    def take(self) -> bytes | None:
        """The next message, or None while there is nothing to send; `ready` is called when there is."""
        if self._snapshot is not None:
            message = next(self._snapshot, None)
            if message is not None:
                return message
            self._snapshot = None
        with self._lock:
            if not self._queue:
                self._idle = True
                return None
            message, alone = self._queue.popleft()
            parts, size = [message], len(message)
            while self._queue and not (alone or self._queue[0][1]) and size < _MESSAGE:
                message, _ = self._queue.popleft()
                parts.append(message)
                size += len(message)
        return b"".join(parts)

    def last(self) -> None:
        """Nothing is sent before the stream is ended: its client resumes elsewhere, at what it knows."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some changes, and the place up to which everything is known with them."""

    revision: Revision
    facts: Sequence[tuple[Change, Link]]


class WatchHub:
    """Implements the port LogListener; any thread may call any method."""

    def __init__(
        self, replica: ReplicaView, keys: KeyRing, clock: Clock, renderer: Renderer, config: WatchConfig
    ) -> None:
        self._replica = replica
        self._keys = keys
        self._clock = clock
        self._renderer = renderer
        self._config = config
        self._lock = threading.Lock()
        self._watchers: set[Watcher] = set()
        self._recent: deque[_Batch] = deque()
        self._kept = 0
        self._begin: Revision | None = None
        """From where on `_recent` has everything; None = nothing was heard yet."""
        self._revision: Revision | None = None
        self._snapshot: Snapshot | None = None

    def __len__(self) -> int:
        return len(self._watchers)

    def open(self, resume_after: Revision | None, ready: Callable[[Watcher], None]) -> Watcher:
        """A new watcher, which is told everything from now on and what it lacks before.

        Raises NotReadyError.
        """
        self._replica.require_ready()
        with self._lock:
            # Registered first: what comes while the snapshot is made is queued, and twice does no harm.
            watcher = Watcher(self._first_messages(resume_after), self._config.queue, ready)
            self._watchers.add(watcher)
        return watcher

    def close(self, watcher: Watcher) -> None:
        """Tell this watcher nothing more. Repeating it does no harm."""
        with self._lock:
            self._watchers.discard(watcher)

    def send_heartbeats(self) -> None:
        """Send a heartbeat to every watcher that waits for one.

        None is sent while the wall clock of this process is not accepted: a heartbeat vouches for its time.
        """
        try:
            self._replica.require_clock()
        except UnavailableError:
            return
        staleness = self._replica.staleness
        with self._lock:
            if self._snapshot is not None and not self._serves(self._snapshot):
                self._snapshot = None
            # What this hub was told, not what the replica knows by now: who is cut off after a heartbeat
            # resumes at its revision, and would miss what comes between the two.
            revision = self._revision or self._replica.revision
            message = self._renderer.heartbeat(revision, self._clock.now(), staleness)
            for watcher in self._watchers:
                watcher.put(message, optional=True)

    def folded(self, revision: Revision, changes: Sequence[tuple[Change, Link]]) -> None:
        facts = [(change, link) for change, link in changes if not isinstance(change, RecordChanged)]
        with self._lock:
            self._revision = revision
            if self._begin is None:
                self._begin = revision
            else:
                self._keep(_Batch(revision, facts))
            if self._watchers:
                message = self._renderer.changes(facts, revision)
                for watcher in self._watchers:
                    watcher.put(message)

    def replaced(self, revision: Revision) -> None:
        with self._lock:
            self._recent.clear()
            self._kept = 0
            self._snapshot = None
            self._begin = self._revision = revision
            if not self._watchers:
                return
            # Denials come again with the log; a generation may stand in the store's table alone.
            messages = [self._renderer.restarted()]
            messages += [self._renderer.changes(chunk, None) for chunk in _chunks(self._generations())]
            for watcher in self._watchers:
                for message in messages:
                    watcher.put(message, alone=True)

    def on_change(self, change: RecordChanged | None) -> None:
        """Send the keys when they, or everything, may have changed; call it after the key ring's."""
        if change is None or change.kind is RecordKind.KEY:
            with self._lock:
                # Rendered within it, so that the last set that is queued is the newest one.
                message = self._renderer.keys(self._keys.published())
                for watcher in self._watchers:
                    watcher.put(message, alone=True)

    def _generations(self) -> Iterator[Fact]:
        for principal, generation in list(self._replica.revocations.generations.items()):
            yield GenerationRaised(principal=principal, number=generation.number, origin=generation.link)

    def _keep(self, batch: _Batch) -> None:
        self._recent.append(batch)
        self._kept += 1 + len(batch.facts)
        while self._kept > _RECENT:
            oldest = self._recent.popleft()
            self._kept -= 1 + len(oldest.facts)
            self._begin = oldest.revision

    def _first_messages(self, resume_after: Revision | None) -> Iterator[bytes]:
        """What comes before the news: what was missed, or everything. Made as it is sent."""
        revision = self._revision or self._replica.revision
        if resume_after is not None and self._resumes(resume_after, revision):
            return self._opening_messages(None, self._since(resume_after), revision)
        snapshot = self._snapshot
        if snapshot is None or not self._serves(snapshot):
            facts = _chunks(self._replica.revocations.facts())
            messages = (self._renderer.changes(chunk, None) for chunk in facts)
            snapshot = self._snapshot = Snapshot(revision, self._clock.monotonic(), messages)
        return self._opening_messages(snapshot, self._since(snapshot.revision), revision)

    def _resumes(self, place: Revision, end: Revision) -> bool:
        """Whether a watcher that knows everything up to this place lacks only what came after it.

        A place of another history, with the same epoch and position, proves nothing: what came before it
        there is not what came before it here.
        """
        return self._replica.recognises(place) and self._reaches(place, end)

    def _reaches(self, place: Revision, end: Revision) -> bool:
        """Whether all that came after this place, which this hub was told, is kept."""
        begin = self._begin
        return (
            begin is not None
            and place.epoch == begin.epoch
            and begin.position <= place.position <= end.position
        )

    def _serves(self, snapshot: Snapshot) -> bool:
        """Whether a new watcher may begin with it."""
        if self._revision is None or not self._reaches(snapshot.revision, self._revision):
            return False
        return not snapshot.broken and self._clock.monotonic() - snapshot.time < _SHARED

    def _since(self, place: Revision) -> Sequence[_Batch]:
        return [batch for batch in self._recent if batch.revision.position > place.position]

    def _opening_messages(
        self, snapshot: Snapshot | None, missed: Sequence[_Batch], revision: Revision
    ) -> Iterator[bytes]:
        if snapshot is not None:
            yield self._renderer.restarted()
        yield self._renderer.keys(self._keys.published())
        yield from snapshot or ()
        for batch in missed:
            yield self._renderer.changes(batch.facts, batch.revision)
        yield self._renderer.changes((), revision)


def _chunks(facts: Iterator[Fact]) -> Iterator[Sequence[tuple[Change, Link]]]:
    """Facts in portions for one message each; each names the link that raised it where it has one."""
    while chunk := [(fact, NO_LINK) for fact in islice(facts, _CHUNK)]:
        yield chunk
