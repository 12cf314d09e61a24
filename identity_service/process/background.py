"""The background threads of a process: all of them start, fail and end in the same way."""

import threading
from collections.abc import Callable
from typing import Final

import structlog

from identity_service.process import thread_limit

Run = Callable[[threading.Event], None]
"""The work of a thread, which ends soon after the event is set."""

_PAUSE: Final = 1.0
"""Seconds between an unexpected exception and the next start of the work."""


class BackgroundThread:
    """A daemon thread that does some work until it is closed.

    An unexpected exception is logged as `background_bug`, and the work starts again a second later.
    """

    def __init__(self, name: str, run: Run, wake: Callable[[], None] = lambda: None) -> None:
        """Create a thread that does `run`; `wake` interrupts a wait of `run` that its event does not end."""
        self.name = name
        self._run = run
        self._wake = wake
        self._thread = threading.Thread(target=self._keep_running, name=name, daemon=True)
        self.stopping = threading.Event()
        """The event that tells the work to end."""

    def start(self) -> None:
        """Start the thread. Raises ConfigurationError if the system gives none."""
        with thread_limit.named():
            self._thread.start()

    def close(self) -> None:
        """Tell the work to end; returns at once."""
        self.stopping.set()
        self._wake()

    def join(self, timeout: float) -> None:
        """Wait for at most `timeout` seconds until the thread has ended."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _keep_running(self) -> None:
        while True:
            try:
                return self._run(self.stopping)
            except Exception as error:  # noqa: BLE001  # if it ended the thread, the work would stay undone
                structlog.get_logger().error("background_bug", thread=self.name, error=type(error).__name__)
            if self.stopping.wait(_PAUSE):
                return None


def every(interval: float, step: Callable[[], object]) -> Run:
    """Return the work of a thread that calls `step` again and again, after `interval` seconds each time."""

    def run(stopping: threading.Event) -> None:
        while not stopping.wait(interval):
            step()

    return run
