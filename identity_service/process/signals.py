"""Signals, handled in a thread of its own: a process learns of them whatever its main thread waits for."""

import os
import signal
import threading
from collections.abc import Mapping
from typing import Final, Protocol

TERMINATED: Final = 128 + signal.SIGTERM
"""What a process exits with that SIGTERM ends before it has begun anything, as a shell says it."""


def end_on_sigterm_as_init() -> None:
    """Let SIGTERM end this process if it is the first of its container, until a command handles it itself.

    The system ends any other process by itself, but ignores the signal for the first one while that has no
    handler: without this, a stop during the first second, which goes by with imports, would be lost.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))


class Handler(Protocol):
    """What is to be done at a signal. It returns at once: the signals that follow wait for it."""

    def __call__(self) -> None: ...


class SignalThread:
    """A thread that calls a handler for each signal.

    The system may hand a signal to any thread, or to the main thread just before that begins to wait. A
    handler in Python then runs only once something else wakes the main thread, which may be never. So the
    interpreter writes the number of each signal to a pipe at once (`signal.set_wakeup_fd`), and this thread
    reads the pipe.
    """

    def __init__(self, handlers: Mapping[signal.Signals, Handler]) -> None:
        """Handle these signals from now on; only in the main thread, and once in a process."""
        self._handlers = {int(number): handler for number, handler in handlers.items()}
        self._numbers, written = os.pipe()
        os.set_blocking(written, False)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        for number in handlers:
            signal.signal(number, _leave_to_the_thread)
        threading.Thread(target=self._run, name="identity-signals", daemon=True).start()

    def _run(self) -> None:
        while numbers := os.read(self._numbers, 64):
            for number in numbers:
                if number in self._handlers:
                    self._handlers[number]()


def _leave_to_the_thread(*_: object) -> None:
    """Do nothing: without a handler in Python the interpreter would not write to the pipe."""
