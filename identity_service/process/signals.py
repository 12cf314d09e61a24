"""Handles signals in a thread, so that a process reacts to them whatever its main thread waits for."""

import os
import signal
import threading
from collections.abc import Mapping
from typing import Final, Protocol

TERMINATED: Final = 128 + signal.SIGTERM
"""The exit code, as a shell reports it, of a process that SIGTERM ends before it handles the signal."""


def end_on_sigterm_as_init() -> None:
    """Let SIGTERM end this process if it is the first of its container, until a command handles it itself.

    The system ignores the signal for the first process (pid 1) as long as the process has no handler, and
    ends any other process. Without this, a stop during the imports of the first second would be lost.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))


class Handler(Protocol):
    """A function to call for a signal. It must return at once, since the next signals wait for it."""

    def __call__(self) -> None:
        """Handle the signal."""


class SignalThread:
    """A thread that calls a handler for each signal.

    The system may deliver a signal to any thread, or to the main thread just before it begins to wait. A
    handler of the module `signal` then runs only when something else wakes the main thread, which may be
    never. Therefore the interpreter writes the number of each signal to a pipe (`signal.set_wakeup_fd`),
    which this thread reads.
    """

    def __init__(self, handlers: Mapping[signal.Signals, Handler]) -> None:
        """Handle these signals from now on. Call it from the main thread, and only once in a process."""
        self._handlers = {int(number): handler for number, handler in handlers.items()}
        self._numbers, written = os.pipe()
        os.set_blocking(written, False)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        for number in handlers:
            signal.signal(number, _ignore)
        threading.Thread(target=self._run, name="identity-signals", daemon=True).start()

    def _run(self) -> None:
        while numbers := os.read(self._numbers, 64):
            for number in numbers:
                if number in self._handlers:
                    self._handlers[number]()


def _ignore(*_: object) -> None:
    """Do nothing; without a handler the interpreter would not write to the pipe."""
