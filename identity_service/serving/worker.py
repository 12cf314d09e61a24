"""One worker process, as its supervisor sees it.

A worker reports on a pipe that it is ready. It ends on SIGTERM, and by itself when its parent has ended.
"""

import multiprocessing
import multiprocessing.resource_tracker
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Self

from identity_service.process.cores import on_core

OF_THE_TERMINAL: Final = (signal.SIGINT, signal.SIGHUP)
"""Signals that a terminal sends to every process, but that only the supervisor handles."""


@dataclass(eq=False, slots=True)
class Worker:
    """A worker process, as the supervisor sees it."""

    process: SpawnProcess
    pipe: Connection
    """The read end of the pipe on which the worker reports that it is ready."""
    grace: float
    """The number of seconds that it may take to end after SIGTERM."""
    start_time: float = field(default_factory=time.monotonic)
    """The time at which it was started, by `time.monotonic`."""
    is_ready: bool = False
    """True if it has reported that it is ready."""
    deadline: float = float("inf")
    """The time at which it is killed, by `time.monotonic`; infinite until it is told to end."""

    @classmethod
    def start(
        cls,
        work: Callable[..., None],
        plan: Any,
        grace: float,
        follow: Callable[[Connection], None] | None,
        *,
        core: int | None,
    ) -> Self:
        """Start a worker; see `Workers` for the arguments. Raises OSError if the process cannot start."""
        reader, writer = multiprocessing.Pipe(duplex=False)
        receiver, sender = multiprocessing.Pipe(duplex=False) if follow else (None, None)
        process = multiprocessing.get_context("spawn").Process(
            target=work, args=(plan, writer, sender), name="identity-worker"
        )
        # Else `start` would start the resource tracker, and thereby unblock the signals.
        multiprocessing.resource_tracker.ensure_running()
        # The worker inherits the mask and unblocks the signals itself, once it ignores them.
        signal.pthread_sigmask(signal.SIG_BLOCK, OF_THE_TERMINAL)
        try:
            with on_core(core):
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_THE_TERMINAL)
        writer.close()  # so that the pipe is closed when the worker ends
        if follow is not None and receiver is not None and sender is not None:
            sender.close()
            follow(receiver)
        return cls(process, reader, grace)

    def read_pipe(self) -> None:
        """Read the pipe: the worker is ready, or it has ended."""
        try:
            self.pipe.recv_bytes()
        except (EOFError, OSError):
            self.process.join()
        else:
            self.is_ready = True
