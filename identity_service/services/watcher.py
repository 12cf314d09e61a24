"""The queue of messages for one watcher, from which a sender of the transport takes them."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

_MESSAGE: Final = 256 * 1024
"""The size, in bytes, from which no further waiting message is joined to a message."""


class Watcher:
    """The messages that wait for one watcher. Any thread may put; one thread at a time may take."""

    def __init__(self, snapshot: Iterator[bytes], limit: int, ready: Callable[["Watcher"], None]) -> None:
        """Queue messages for one watcher.

        Args:
            snapshot: the messages that are taken before those that are put.
            limit: the number of messages that may wait.
            ready: called when a message is put after `take` has returned None.
        """
        self._snapshot: Iterator[bytes] | None = snapshot
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._limit = limit
        self._ready = ready
        self._lock = threading.Lock()
        self._idle = False
        self.overflowed = False
        """True if a message was dropped because the queue was full; no further message is queued then."""

    def put(self, message: bytes, *, optional: bool = False, alone: bool = False) -> None:
        """Queue a message.

        An `optional` message is dropped unless the watcher is waiting for one. A message that goes `alone` is
        not joined with others.
        """
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
        """Return the next message, or None if none waits; `ready` is called once there is one."""
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
        """Send nothing more before the stream ends: the client resumes on another process at its revision."""
