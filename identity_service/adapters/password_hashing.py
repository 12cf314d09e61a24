"""Passwords: argon2id (RFC 9106) in processes of its own behind a bounded queue, and which are too common.

The only importer of `argon2` and of `zxcvbn`. Hashing takes 64 MiB and tens of milliseconds, so at most as
many run as there are processes, and a call that finds the queue full is refused with a time to retry.
"""

import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Final, ParamSpec, TypeVar
from weakref import WeakSet

import argon2
import structlog
from argon2.low_level import error_to_str

from identity_service.domain.errors import (
    ConfigurationError,
    NotReadyError,
    ServerBusyError,
    ShuttingDownError,
)
from identity_service.domain.invisible import comparable
from identity_service.domain.secret import Secret

P = ParamSpec("P")
T = TypeVar("T")

_POOLS: Final[WeakSet[Executor]] = WeakSet()
_PROCESSES: Final[WeakSet[SpawnProcess]] = WeakSet()
"""Those that hash."""
_NO_MEMORY: Final = error_to_str(-22)
"""The library's error if the system gives it no memory (ARGON2_MEMORY_ALLOCATION_ERROR)."""
_NO_THREAD: Final = error_to_str(-33)
"""The library's error if the system gives it no thread for a lane (ARGON2_THREAD_FAIL)."""
_NICENESS: Final = 19
"""The lowest priority that there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argon2Config:
    """RFC 9106 section 4, second recommended option, by default."""

    time_cost: int = 3
    memory_kib: int = 64 * 1024
    parallelism: int = 4
    processes: int = 1
    queue: int = 16
    """The most hashes that may wait beyond those in progress."""


class Argon2Hasher:
    """Implements the port PasswordHasher."""

    def __init__(self, config: Argon2Config) -> None:
        """Raises ConfigurationError if the system has no room for one hash."""
        self._argon2 = argon2.PasswordHasher(
            time_cost=config.time_cost, memory_cost=config.memory_kib, parallelism=config.parallelism
        )
        self._processes = config.processes
        self._places = threading.BoundedSemaphore(config.processes + config.queue)
        # What an unknown account is compared with, so that it costs as much as a known one.
        try:
            self._nobody = self._argon2.hash("the password of nobody")
        except argon2.exceptions.HashingError as error:
            raise ConfigurationError(
                f"a password cannot be hashed here ({error}): argon2_parallelism takes {config.parallelism} "
                f"threads, argon2_memory_kib {config.memory_kib} KiB; raise the limits of this process "
                "(`ulimit -u` and `-v`, pids.max and memory.max of the container, LimitNPROC= and TasksMax= "
                "of systemd)"
            ) from error

    def hash(self, password: Secret) -> str:
        return self._run(_hash, self._argon2, _normalized(password))

    def verify(self, phc: str | None, password: Secret) -> bool:
        right = self._run(_matches, self._argon2, phc or self._nobody, _normalized(password))
        return right and phc is not None

    def is_outdated(self, phc: str) -> bool:
        return self._argon2.check_needs_rehash(phc)

    def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if not self._places.acquire(blocking=False):
            raise ServerBusyError("too many passwords are being checked; try again")
        try:
            return _pool(self._processes).submit(work, *args, **kwargs).result()
        except MemoryError as error:
            raise ServerBusyError("there is no memory to check passwords at the moment; try again") from error
        except _NoThreadError as error:
            raise NotReadyError(
                "the system gives this process no thread to check passwords; try another one, and raise the "
                "limit of processes of this one"
            ) from error
        except CancelledError as error:
            raise ShuttingDownError("this process is stopping; reconnect") from error
        except (BrokenExecutor, OSError, RuntimeError) as error:
            # The system had to end a process to have memory again, or gives no further process or thread.
            _pool.cache_clear()
            raise ServerBusyError("passwords cannot be checked at the moment; try again") from error
        finally:
            self._places.release()


@cache
def _pool(processes: int) -> Executor:
    """The processes that hash, started when they are first needed; they end with this one.

    They are no threads, since a thread that gives way to others while it holds the interpreter's lock
    makes all of them wait (`docs/decisions/0011`). Where the system has no semaphores for processes, as
    without a writable `/dev/shm`, threads hash at normal priority.
    """
    pool: Executor
    try:
        pool = ProcessPoolExecutor(processes, _HashingContext(), initializer=_yield_to_others)
    except OSError as error:
        structlog.get_logger().warning("passwords_in_threads", error=type(error).__name__, code=error.errno)
        pool = ThreadPoolExecutor(processes, "identity-password")
    _POOLS.add(pool)
    _end_them_first()
    return pool


@cache
def _end_them_first() -> None:
    """Let `end_processes` be the first that is done when this process ends; only the first call counts.

    A worker that ends waits for its children, which wait for an order from the pool, which comes through a
    queue that is closed with priority 10.
    """
    multiprocessing.util.Finalize(None, end_processes, exitpriority=100)


def end_processes() -> None:
    """End the processes that hash, and fail the calls that wait for them with SHUTTING_DOWN or SERVER_BUSY.

    Call it before the interpreter ends, which waits for them otherwise. They are killed, since they keep
    nothing, and at their priority it takes a busy machine many seconds to let one end by itself.
    """
    kill_processes()
    for pool in [*_POOLS]:
        pool.shutdown(cancel_futures=True)
    _pool.cache_clear()


def kill_processes() -> None:
    """Kill the processes that hash, and wait for nothing."""
    for process in [*_PROCESSES]:
        if process.pid is not None:
            process.kill()


class _HashingProcess(SpawnProcess):
    """A process that hashes, and that `kill_processes` finds."""

    def start(self) -> None:
        """Start it."""
        super().start()
        _PROCESSES.add(self)


class _HashingContext(SpawnContext):
    """Makes processes that hash."""

    Process = _HashingProcess


class _NoThreadError(Exception):
    """The system gives the library no thread: the password may be right."""


def _hash(hasher: argon2.PasswordHasher, password: str) -> str:
    try:
        return hasher.hash(password)
    except argon2.exceptions.HashingError as error:
        raise _meant(error) from None


def _matches(hasher: argon2.PasswordHasher, phc: str, password: str) -> bool:
    try:
        return hasher.verify(phc, password)
    except argon2.exceptions.InvalidHashError:
        return False
    except argon2.exceptions.VerificationError as error:
        if (meant := _meant(error)) is not error:  # the password may be right
            raise meant from None
        return False


def _meant(error: argon2.exceptions.Argon2Error) -> Exception:
    """Return MemoryError if memory was lacking, _NoThreadError if a thread was, else the error itself."""
    if _NO_MEMORY in str(error):
        return MemoryError()
    return _NoThreadError() if _NO_THREAD in str(error) else error


def is_common(password: Secret) -> bool:
    """Return whether a password is among those that attackers try first (NIST SP 800-63B section 3.1.1.2).

    Characters that are not seen, and spaces, make no other password of it.
    """
    common = _common_passwords()
    return _normalized(password).casefold() in common or comparable(password.reveal()) in common


def _normalized(password: Secret) -> str:
    """Return one form for all ways to type the same characters (NIST SP 800-63B section 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password.reveal())


@cache
def _common_passwords() -> frozenset[str]:
    """Read the list when the first password is set: only administration needs it."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # 5 MB that most processes never need

    return frozenset(FREQUENCY_LISTS["passwords"])


def _yield_to_others() -> None:
    """Start a process that hashes at the lowest priority and ends with its parent."""
    with suppress(OSError, AttributeError):
        os.nice(_NICENESS)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process once its parent has ended: the pool does not do it if the parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(0)
