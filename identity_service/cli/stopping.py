"""Ctrl-C and SIGTERM in the middle of a command that must clean up behind itself."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from identity_service.cli.output import Exit, fail, failures

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The command was told to stop. No `except Exception` may take it for something else."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted in the block at the first of these signals; ignore any further one, to clean up."""

    def interrupt(number: int, _: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(f"stopped by {signal.Signals(number).name}")

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stoppable(outcome: str, *, as_json: bool) -> Iterator[None]:
    """Around a command: shows its errors as `failures` does, and that it was stopped, with this outcome."""
    try:
        with interruptible(), failures(as_json=as_json):
            yield
    except Interrupted as stopped:
        fail(f"{stopped}: {outcome}", Exit.FAILED, as_json=as_json, reason="INTERRUPTED")
