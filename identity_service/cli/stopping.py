"""Handling of Ctrl-C and SIGTERM in commands that must clean up before they end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from identity_service.cli.output import Exit, fail

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The command was told to stop. A BaseException, so that `except Exception` does not catch it."""


@contextmanager
def stoppable(outcome: str) -> Iterator[None]:
    """End the command with this outcome at the first SIGINT or SIGTERM; ignore later ones during clean-up."""

    def interrupt(number: int, _: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(f"stopped by {signal.Signals(number).name}")

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    except Interrupted as stopped:
        fail(f"{stopped}: {outcome}", Exit.FAILED, reason="INTERRUPTED")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
