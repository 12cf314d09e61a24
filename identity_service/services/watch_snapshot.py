"""A snapshot for watchers: everything that was live at one moment, made once for all who come soon after.

Owns the messages that were made so far. Knows neither what they say nor when they are too old.
"""

import threading
from collections.abc import Iterator

from identity_service.domain.log import Revision


class Snapshot:
    """Messages that are made as the first watcher takes them. Any thread may iterate at any time."""

    def __init__(self, revision: Revision, time: float, messages: Iterator[bytes]) -> None:
        """
        Args:
            revision: everything up to here is in the messages, and perhaps more.
            time: when it was begun, in seconds on the monotonic clock.
            messages: makes them; nothing is asked of it before somebody needs it.
        """
        self.revision = revision
        self.time = time
        self._messages = messages
        self._made: list[bytes] = []
        self._complete = False
        self.broken = False
        """Whether making it failed: then it must serve nobody, since facts are lacking."""
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
            if self.broken:  # an iterator that has raised looks like one that has ended
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
