"""The module that Envoy loads: runs the service, which Envoy's parent process starts and stops by a pipe.

Only the parent holds the other end of the pipe. When the parent has ended, for whatever reason, reading from
the pipe fails, and Envoy ends as well.
"""

import asyncio
import multiprocessing
import multiprocessing.connection
import os
import pickle
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from identity_service.adapters.password_hashing import end_processes, kill_processes
from identity_service.bootstrap import Service
from identity_service.domain.errors import ConfigurationError
from identity_service.envoy.certificates import keep_handing_over
from identity_service.envoy.plan import DIRECTORY, PIPE, SAMPLES, Plan
from identity_service.process import last_resort
from identity_service.process.background import BackgroundThread
from identity_service.process.garbage import collect_seldom, skip_lasting_objects
from identity_service.process.last_resort import LastResort
from identity_service.telemetry import logs
from identity_service.transport.asgi import Receive, Send

_ENVOY_VARIABLES: Final = (PIPE, SAMPLES, DIRECTORY, "PYTHONHOME", "PYTHONPATH", "LD_PRELOAD")
"""Environment variables that are meant for Envoy only, and not for processes that the service starts."""

_ORPHANED_SECONDS: Final = last_resort.ORPHANED_GRACE.total_seconds() + last_resort.INSIDE
"""Seconds after the end of the parent at which the last resort ends this process."""


class Inside:
    """The ASGI application that Envoy calls; runs one service at a time."""

    def __init__(self) -> None:
        self.service: Service | None = None
        self._certificates: BackgroundThread | None = None
        self._app: Any = None
        self._begun = False
        self._directory: Path | None = None
        self._samples: Connection | None = None
        self._last_resort: LastResort | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle the lifespan protocol of ASGI, or pass a call to the engine of the service."""
        await (
            self._run_lifespan(receive, send)
            if scope["type"] == "lifespan"
            else self._app(scope, receive, send)
        )

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """Follow the lifespan protocol of ASGI: start the service, and stop it when Envoy ends."""
        loop = asyncio.get_running_loop()
        await receive()
        try:
            # Envoy starts one lifespan for each port that it listens on, one after the other.
            if not self._begun:
                self._begun = True
                await loop.run_in_executor(None, self.begin, self._open_pipe())
        except BaseException:
            await send({"type": "lifespan.startup.failed", "message": "the service did not start"})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await loop.run_in_executor(None, self.stop)
        await loop.run_in_executor(None, end_processes)
        await send({"type": "lifespan.shutdown.complete"})

    def _open_pipe(self) -> Connection:
        pipe = Connection(int(os.environ[PIPE]))
        self._directory = Path(os.environ[DIRECTORY])
        if SAMPLES in os.environ:
            self._samples = Connection(int(os.environ[SAMPLES]), readable=False)
        self._last_resort = LastResort()
        self._last_resort.before_end(kill_processes)
        self._last_resort.before_end(self._remove_directory)
        for name in _ENVOY_VARIABLES:  # processes started from here are ordinary Python interpreters
            os.environ.pop(name, None)
        return pipe

    def begin(self, pipe: Connection) -> None:
        """Receive a `Plan` from the pipe, start its service, and send None, or the error if it did not start.

        Raises the same error. If the parent has ended, ends Envoy, and raises EOFError or OSError.
        """
        try:
            plan: Plan = pipe.recv()
        except (EOFError, OSError):
            self.end_without_parent()
            raise
        logs.configure(plan.settings.log_level, plan.settings.log_format)
        try:
            # Before the start: the parent may end while that hangs.
            threading.Thread(target=self._await_stop, args=[pipe], name="identity-pipe", daemon=True).start()
            self.start(plan)
        except BaseException as error:
            with suppress(OSError):  # the parent has ended, which the thread notices
                pipe.send(sendable(error))
            raise
        skip_lasting_objects()
        collect_seldom()
        with suppress(OSError):
            pipe.send(None)

    def _await_stop(self, pipe: Connection) -> None:
        """Stop the service when the parent sends a grace period for calls, and send the parent the result.

        When the parent has ended, ends Envoy.
        """
        with suppress(EOFError, OSError):
            while True:
                grace: timedelta = pipe.recv()
                self._arm(grace.total_seconds() + last_resort.INSIDE)
                done, stopped = False, threading.Event()
                with suppress(RuntimeError):  # the system gives no further thread
                    threading.Thread(
                        target=self._hurry_if_orphaned,
                        args=[pipe, stopped],
                        name="identity-parent",
                        daemon=True,
                    ).start()
                try:
                    done = self.stop(grace)
                finally:
                    stopped.set()
                    self._remove_directory()  # the parent may be killed before it removes the directory
                    pipe.send(done)
        self.end_without_parent()

    def _hurry_if_orphaned(self, pipe: Connection, stopped: threading.Event) -> None:
        """Arm the last resort for an earlier time if the parent ends before the service has stopped.

        The parent sends nothing while it waits for the result: if the pipe becomes readable, it has ended.
        """
        multiprocessing.connection.wait([pipe])
        if not stopped.is_set():
            self._arm(_ORPHANED_SECONDS)

    def end_without_parent(self) -> None:
        """Stop the service, remove the parent's directory, and end Envoy, after the parent has ended.

        Arms the last resort first, which ends the process and removes the directory if this takes too long.
        """
        self._arm(_ORPHANED_SECONDS)
        try:
            self.stop(last_resort.ORPHANED_GRACE)
        finally:
            self._remove_directory()
            os.kill(os.getpid(), signal.SIGTERM)

    def _arm(self, seconds: float) -> None:
        if self._last_resort is not None:
            self._last_resort.arm(seconds)

    def _remove_directory(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def start(self, plan: Plan, **parts: Any) -> None:
        """Start a service. Raises the errors of `Service`.

        Args:
            plan: the settings, and the Python interpreter for processes that the service starts.
            parts: further arguments of `Service`; tests give a clock and a store.
        """
        sys.executable = plan.python  # inside Envoy, Python does not know it
        self.service = service = Service(
            plan.settings, samples=self._samples, behind_asgi=True, dev=plan.dev, **parts
        )
        service.start()
        self._app = service.app
        if service.certificates is not None and self._directory is not None:
            run = partial(keep_handing_over, service.certificates, self._directory)
            self._certificates = BackgroundThread("identity-certificates", run)
            self._certificates.start()

    def stop(self, grace: timedelta | None = None) -> bool:
        """Stop the service, and return the result of `Service.stop`; True if no service runs."""
        service, self.service = self.service, None
        if self._certificates is not None:
            self._certificates.close()
        return service is None or service.stop(grace)


def sendable(error: BaseException) -> BaseException:
    """Return the error if another process can unpickle it, else a ConfigurationError with its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # pickled by this process
    except Exception:  # noqa: BLE001  # errors of other libraries fail to unpickle in many ways
        return ConfigurationError(str(error))
    return error


app = Inside()
