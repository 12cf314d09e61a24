"""Writes the lines of the log from a thread of its own. Knows not what they say."""

import atexit
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_WAITING: Final = 20_000
_COLLECT: Final = 0.02
"""Seconds that the first line waits for others: every write lets go of the interpreter."""
_TOGETHER: Final = 1000
"""Lines in one write."""


class LineWriter:
    """Many lines in one write; who logs waits for nobody, also where nobody reads."""

    def __init__(
        self,
        write: Callable[[bytes], object],
        say_dropped: Callable[[int], bytes],
        *,
        waiting: int = _WAITING,
    ) -> None:
        """
        Args:
            write: takes whole lines; may block.
            say_dropped: the line that says how many were dropped.
            waiting: how many lines may wait to be written; those that come then are dropped.
        """
        self._write = write
        self._say_dropped = say_dropped
        self._limit = waiting
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._has_begun = False
        """Whether what waits is written when the process ends."""
        self._closing = threading.Event()

    def put(self, line: bytes) -> None:
        """Have it written soon. Never blocks."""
        if self._lines.qsize() < self._limit:
            self._lines.put(line)
            if self._thread is None:
                self._start()
        else:
            with self._lock:
                self._dropped += 1

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, for at most `timeout` seconds; without the thread, by the caller."""
        self._closing.set()
        self._lines.put(b"")
        if self._thread is not None:
            self._thread.join(timeout)
        elif self._has_begun:
            self._run()

    def _start(self) -> None:
        """Start the thread. If the system gives none, lines wait, and the next one tries again."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="identity-log", daemon=True)
                if not self._has_begun:
                    self._has_begun = True
                    atexit.register(self.close)
                with suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while not (self._closing.is_set() and self._lines.empty()):
            lines = [self._lines.get()]
            self._closing.wait(_COLLECT)
            lines += [self._lines.get() for _ in range(min(self._lines.qsize(), _TOGETHER))]
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(self._say_dropped(dropped))
            try:
                self._write(b"".join(lines))
            except (OSError, ValueError):  # nobody reads any more, which is no reason to end
                continue
