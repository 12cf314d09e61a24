"""Password hashing with argon2id (RFC 9106) in child processes.

One hash takes 64 MiB and tens of milliseconds, so there are at most as many in progress as child processes.
Others wait in a bounded queue; if it is full, ServerBusyError is raised.

The processes are not threads: a thread of low priority that holds the interpreter's lock makes all others
wait (`docs/decisions/0011`). They are not those of `concurrent.futures.ProcessPoolExecutor` either: such a
child imports `multiprocessing` and the main module of its parent, and one more process tracks the semaphores.
Both together took 42 MB (bar S11).
"""

import os
import pickle
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from identity_service.adapters.argon2id import (
    NoThreadError,
    hash_password,
    matches,
    parameters,
    prefix,
    thread_count,
)
from identity_service.domain.errors import (
    ConfigurationError,
    NotReadyError,
    ServerBusyError,
    ShuttingDownError,
)
from identity_service.domain.secret import Secret

T = TypeVar("T")
_PROGRAM: Final = "from identity_service.adapters.password_child import main; main()"
_POOLS: Final[dict[int, "PasswordProcesses"]] = {}
"""The pools of this process, by their number of child processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argon2Config:
    """The parameters of argon2id; the defaults are the second recommended option of RFC 9106 section 4."""

    time_cost: int = 3
    """The number of passes over the memory."""
    memory_kib: int = 64 * 1024
    """The memory that one hash takes, in KiB."""
    parallelism: int = 4
    """The number of lanes, each with a thread of its own."""
    processes: int = 1
    """The number of child processes, each of which computes one hash at a time."""
    queue: int = 16
    """The largest number of hashes that wait for a child process, beyond those in progress."""


class Argon2Hasher:
    """An implementation of the port PasswordHasher with argon2id.

    `hash` and `verify` raise ServerBusyError if the queue is full, memory is short or no child process can
    be started, NotReadyError if the system gives this process no further thread, ShuttingDownError if the
    process stops meanwhile.
    """

    def __init__(self, config: Argon2Config) -> None:
        """Compute one hash. Raises ConfigurationError if the system lacks memory or threads for it."""
        cost = partial(parameters, memory_kib=config.memory_kib, lanes=config.parallelism)
        self._parameters = cost(passes=config.time_cost)
        self._prefix = prefix(self._parameters)
        self._processes = config.processes
        self._places = config.processes + config.queue
        self._lock = threading.Lock()
        self.open = 0
        """The number of hashes that are computed or wait for a child process now."""
        self.refused = 0
        """The number of hashes that found no place since this process began."""
        # A hash with one pass needs as much memory and as many threads as one with all passes, and less time.
        try:
            tried = hash_password(cost(passes=1), "the password of nobody")
        except (MemoryError, NoThreadError, ValueError) as error:
            raise ConfigurationError(
                f"this machine cannot hash passwords ({error}): argon2_parallelism needs "
                f"{thread_count(config.parallelism)} threads here, argon2_memory_kib {config.memory_kib} "
                "KiB; raise the limits of this process (`ulimit -u` and `-v`, pids.max and memory.max of the "
                "container, LimitNPROC= and TasksMax= of systemd)"
            ) from error
        # The password of an unknown user is compared with this hash. It names all the passes, so that this
        # takes as long as with a known user's.
        self._dummy_hash = tried.replace("t=1,", f"t={config.time_cost},", 1)

    def hash(self, password: Secret) -> str:
        """Return the hash of a password in PHC string format."""
        return self._run(hash_password, self._parameters, normalized(password))

    def verify(self, phc: str | None, password: Secret) -> bool:
        """Return whether the password has this hash; always False, after the same time, if `phc` is None."""
        right = self._run(matches, phc or self._dummy_hash, normalized(password))
        return right and phc is not None

    def is_outdated(self, phc: str) -> bool:
        """Return whether the hash was made with other parameters than the present ones."""
        return not phc.startswith(self._prefix)

    def _run(self, work: Callable[..., T], *args: object) -> T:
        self._enter()
        try:
            return shared_pool(self._processes).run(work, *args)
        except MemoryError as error:
            raise ServerBusyError("this process has no memory to check passwords now; try again") from error
        except NoThreadError as error:
            raise NotReadyError(
                "the system gives this process no thread to check passwords; use another instance, and raise "
                "the limit of processes of this one"
            ) from error
        finally:
            self._leave()

    def _enter(self) -> None:
        """Take a place in the queue. Raises ServerBusyError if it is full."""
        with self._lock:
            if self.open == self._places:
                self.refused += 1
                raise ServerBusyError("too many passwords are being checked; try again")
            self.open += 1

    def _leave(self) -> None:
        with self._lock:
            self.open -= 1


def normalized(password: Secret) -> str:
    """Return the password in Unicode's form NFKC (NIST SP 800-63B section 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password.reveal())


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
            return ShuttingDownError()
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
    """Start a child process. Raises OSError if the system cannot start one."""
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
