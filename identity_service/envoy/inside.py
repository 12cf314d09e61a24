"""What Envoy loads: the service, started and stopped as the process that started Envoy says.

That process is Envoy's parent. It holds the other end of a pipe, and nothing else does: when the parent has
ended, however it did, reading from the pipe says so, and Envoy ends as well.
"""

import asyncio
import gc
import multiprocessing
import multiprocessing.connection
import os
import pickle
import shutil
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import identity_service.telemetry.plain_structlog  # noqa: F401  # isort: skip  # before anything that logs
from identity_service.adapters.password_hashing import end_processes, kill_processes
from identity_service.bootstrap import Service
from identity_service.domain.errors import ConfigurationError
from identity_service.envoy.certificates import HandOver
from identity_service.envoy.plan import DIRECTORY, PIPE, Plan
from identity_service.grpc_api.asgi.calls import Receive, Send
from identity_service.process import last_resort
from identity_service.process.last_resort import LastResort
from identity_service.telemetry import logs

_FOR_ENVOY_ALONE: Final = (PIPE, DIRECTORY, "PYTHONHOME", "PYTHONPATH", "LD_PRELOAD")

_WITHOUT_PARENT: Final = last_resort.ORPHANED_GRACE.total_seconds() + last_resort.INSIDE
"""Seconds in which all ends once the parent has ended."""


class Inside:
    """The application that Envoy calls: one service at a time."""

    def __init__(self) -> None:
        self.service: Service | None = None
        self._hand_over: HandOver | None = None
        self._app: Any = None
        self._begun = False
        self._directory: Path | None = None
        self._last_resort: LastResort | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        await (self._live(receive, send) if scope["type"] == "lifespan" else self._app(scope, receive, send))

    async def _live(self, receive: Receive, send: Send) -> None:
        """The protocol "lifespan" of ASGI."""
        loop = asyncio.get_running_loop()
        await receive()
        try:
            # Envoy does this for each port that it listens on, one after the other.
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
        self._last_resort = LastResort()
        self._last_resort.before_end(kill_processes)
        self._last_resort.before_end(self._remove_directory)
        for name in _FOR_ENVOY_ALONE:  # what is started from here is an ordinary Python
            os.environ.pop(name, None)
        return pipe

    def begin(self, pipe: Connection) -> None:
        """Start the service of the plan that comes through the pipe; answer None, or why it did not start."""
        try:
            plan: Plan = pipe.recv()
        except (EOFError, OSError):
            self.end_without_parent()
            raise
        logs.configure(plan.settings.log_level, plan.settings.log_format)
        try:
            # Before the start, which may take for ever while the parent ends.
            threading.Thread(target=self._obey, args=[pipe], name="identity-pipe", daemon=True).start()
            self.start(plan)
        except BaseException as error:
            with suppress(OSError):  # the parent has ended, which the thread knows
                pipe.send(sendable(error))
            raise
        # What is there by now stays: a full collection need not look at all of it each time.
        gc.collect()
        gc.freeze()
        with suppress(OSError):
            pipe.send(None)

    def _obey(self, pipe: Connection) -> None:
        """Stop the service when the parent sends how long calls may take, and end Envoy when it has ended."""
        with suppress(EOFError, OSError):
            while True:
                grace: timedelta = pipe.recv()
                self._arm(grace.total_seconds() + last_resort.INSIDE)
                done, stopped = False, threading.Event()
                with suppress(RuntimeError):  # the system has no room for another thread
                    threading.Thread(
                        target=self._hurry_without_parent, args=[pipe, stopped], daemon=True
                    ).start()
                try:
                    done = self.stop(grace)
                finally:
                    stopped.set()
                    self._remove_directory()  # the parent may be killed before it can
                    pipe.send(done)
        self.end_without_parent()

    def _hurry_without_parent(self, pipe: Connection, stopped: threading.Event) -> None:
        """Bring the last resort forward if the parent ends before the service has stopped.

        While the parent waits for the answer it sends nothing: if there is something to read, it has ended.
        """
        multiprocessing.connection.wait([pipe])
        if not stopped.is_set():
            self._arm(_WITHOUT_PARENT)

    def end_without_parent(self) -> None:
        """Stop the service, remove what the parent wrote for Envoy, and end Envoy: the parent has ended.

        All of it within the time of the last resort, which then removes it, too.
        """
        self._arm(_WITHOUT_PARENT)
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
        """Raises what `Service` raises.

        Args:
            parts: as `Service` takes them.
        """
        multiprocessing.set_executable(plan.python)
        self.service = service = Service(plan.settings, behind_asgi=True, **parts)
        service.start()
        self._app = service.app
        if service.certificates is not None and self._directory is not None:
            self._hand_over = HandOver(service.certificates, self._directory)
            self._hand_over.start()

    def stop(self, grace: timedelta | None = None) -> bool:
        """Stop as `Service.stop` does, and return what that does; True where nothing runs."""
        service, self.service = self.service, None
        if self._hand_over is not None:
            self._hand_over.close()
        return service is None or service.stop(grace)


def sendable(error: BaseException) -> BaseException:
    """The error as another process can read it."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    except Exception:  # noqa: BLE001  # whatever keeps it from being read
        return ConfigurationError(str(error))
    return error


app = Inside()
