"""The child processes that hash passwords, as their parent sees them.

Not `concurrent.futures.ProcessPoolExecutor`: a child of that imports `multiprocessing` and the main module of
its parent, and one more process tracks the semaphores. Both together took 42 MB (bar S11).
"""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from identity_service.domain.errors import ServerBusyError, ShuttingDownError

T = TypeVar("T")
_PROGRAM: Final = "from identity_service.adapters.password_child import main; main()"
_POOLS: Final[dict[int, "PasswordProcesses"]] = {}
"""The pools of this process, by their number of child processes."""


class PasswordProcesses:
    """At most `count` child processes, each started when it is first needed. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._free = threading.BoundedSemaphore(count)
        self._lock = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []
        self._all: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in a child process, once one is free; return its result, or raise its exception.

        Raises ServerBusyError if no process can be started, or if the process ends meanwhile, such as killed
        by the system because memory is short; ShuttingDownError if the pool is closed.
        """
        with self._free:
            child = self._take()
            try:
                result, error = _ask(child, function, arguments)
            except (OSError, EOFError, pickle.UnpicklingError) as broken:
                self._forget(child)
                raise self._refusal() from broken
            self._idle.append(child)
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]  # of the function

    def close(self) -> None:
        """Kill all processes, and wait until they have ended; calls that wait for them fail.

        They are killed, since they have no state, and because of their low priority an orderly end can take
        many seconds on a busy machine.
        """
        self.kill()
        for child in tuple(self._all):
            child.wait()
            if child in self._idle:
                self._forget(child)

    def kill(self) -> None:
        """Kill all processes, and start no further one; does not wait until they have ended."""
        with self._lock:
            self._closed = True
        for child in tuple(self._all):
            child.kill()

    def _take(self) -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._closed:
                raise self._refusal()
            if self._idle:
                return self._idle.pop()
            try:
                child = _start()
            except OSError as error:
                raise self._refusal() from error
            self._all.add(child)
            return child

    def _forget(self, child: "subprocess.Popen[bytes]") -> None:
        """End a process that is not used any more."""
        self._all.discard(child)
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):  # a request could not be written
                    pipe.close()

    def _refusal(self) -> Exception:
        if self._closed:
            return ShuttingDownError("this process is stopping; reconnect")
        return ServerBusyError("passwords cannot be checked at the moment; try again")


def shared_pool(count: int) -> PasswordProcesses:
    """Return the pool of so many child processes that all hashers of this process share."""
    return _POOLS.setdefault(count, PasswordProcesses(count))


def end_processes() -> None:
    """End the child processes; calls that wait for them fail with SHUTTING_DOWN.

    Later calls start new ones.
    """
    while _POOLS:
        _POOLS.popitem()[1].close()


def kill_processes() -> None:
    """Kill the child processes, without waiting until they have ended; no further ones are started."""
    for pool in tuple(_POOLS.values()):
        pool.kill()


def _start() -> "subprocess.Popen[bytes]":
    """Start a child process. Raises OSError if the system starts none."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        process_group=0,  # Ctrl-C must reach only the parent, which then drains
    )


def _ask(child: "subprocess.Popen[bytes]", function: Callable[..., T], arguments: tuple[object, ...]) -> Any:
    """Send a request to a child process; return the result and the exception of the function.

    Raises OSError, EOFError or UnpicklingError if the process ends before it has answered.
    """
    if child.stdin is None or child.stdout is None:
        raise AssertionError("it was started with pipes")
    child.stdin.write(pickle.dumps((function, arguments)))
    child.stdin.flush()
    return pickle.load(child.stdout)  # noqa: S301  # of the child
