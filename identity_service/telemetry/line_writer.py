"""Writes log lines in a background thread. Knows nothing about their content."""

import atexit
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_MAX_WAITING: Final = 20_000
"""Most lines that wait to be written."""
_BATCH_DELAY: Final = 0.02
"""Seconds that the first line waits for others to be written with it: every write releases the GIL."""
_MAX_BATCH: Final = 1000
"""Most lines in one write."""


class LineWriter:
    """A bounded queue of log lines and a thread that writes many of them at once.

    A thread that logs never waits, even if nothing reads the log; beyond the bound lines are dropped and
    counted.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        say_dropped: Callable[[int], bytes],
        *,
        waiting: int = _MAX_WAITING,
    ) -> None:
        """Create the queue; the thread starts with the first line.

        Args:
            write: writes whole lines; may block.
            say_dropped: returns the line that reports how many lines were dropped.
            waiting: most lines that wait to be written; further lines are dropped.
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
        """Queue a line, which is written about 20 ms later. Never blocks."""
        if self._lines.qsize() < self._limit:
            self._lines.put(line)
            if self._thread is None:
                self._start()
        else:
            with self._lock:
                self._dropped += 1

    def close(self, timeout: float = 2.0) -> None:
        """Write the waiting lines, for at most `timeout` seconds, and end the thread.

        Without a thread the caller writes them.
        """
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
            self._closing.wait(_BATCH_DELAY)
            lines += [self._lines.get() for _ in range(min(self._lines.qsize(), _MAX_BATCH))]
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(self._say_dropped(dropped))
            try:
                self._write(b"".join(lines))
            except (OSError, ValueError):  # the log is closed: go on, the lines are lost
                continue
