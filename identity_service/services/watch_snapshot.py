"""A snapshot for watchers: everything that is live at one moment, rendered once for several watchers.

The module knows neither the content of the messages nor when the snapshot is too old.
"""

import threading
from collections.abc import Iterator

from identity_service.domain.log import Revision


class WatchSnapshot:
    """The messages of one snapshot, each rendered when the first watcher takes it. Thread-safe."""

    def __init__(self, revision: Revision, time: float, messages: Iterator[bytes]) -> None:
        """Share these messages between watchers.

        Args:
            revision: the messages contain everything up to this revision, and perhaps more.
            time: the time at which the snapshot was begun, in seconds on the monotonic clock.
            messages: renders the messages; it is advanced only when a watcher needs the next one.
        """
        self.revision = revision
        self.time = time
        self._messages = messages
        self._made: list[bytes] = []
        self._complete = False
        self.broken = False
        """True if rendering failed. The snapshot lacks facts then, and must not be used."""
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[bytes]:
        place = 0
        while (message := self._at(place)) is not None:
            yield message
            place += 1

    def _at(self, place: int) -> bytes | None:
        with self._lock:
            if place < len(self._made):
                return self._made[place]
            if self._complete:
                return None
            if self.broken:  # a generator that has raised would look as if it had ended
                raise RuntimeError("this snapshot could not be made")
            try:
                message = next(self._messages, None)
            except BaseException:
                self.broken = True
                raise
            if message is None:
                self._complete = True
            else:
                self._made.append(message)
            return message
