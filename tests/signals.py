"""Restores the handling of signals that a process has when it is started from a terminal.

A shell that runs a command in the background, `nohup` and some CI runners start it with SIGINT or SIGHUP
ignored, and child processes inherit the ignored and blocked signals.
"""

import signal
from collections.abc import Iterable
from typing import Final

_FOR_PROCESSES: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)


def give_default_signals_to_children(signals: Iterable[signal.Signals] = _FOR_PROCESSES) -> None:
    """Have child processes start with the default handling of these signals, and with none of them blocked.

    This process goes on ignoring those that it ignores, by a handler that does nothing: child processes
    inherit that a signal is ignored, but not a handler.
    """
    for number in signals:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _ignore(*_: object) -> None:
    """Do nothing."""
