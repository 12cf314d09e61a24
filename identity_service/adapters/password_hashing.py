"""Password hashing with argon2id (RFC 9106) in child processes, and the list of common passwords.

The only importer of `zxcvbn`. One hash takes 64 MiB and tens of milliseconds, so there are at most as many in
progress as child processes. Others wait in a bounded queue; if it is full, ServerBusyError is raised. The
processes are not threads: a thread of low priority that holds the interpreter's lock makes all others wait
(`docs/decisions/0011`).
"""

import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

from identity_service.adapters.argon2id import (
    NoThreadError,
    hash_password,
    is_made_with,
    matches,
    parameters,
    thread_count,
)
from identity_service.adapters.password_processes import shared_pool
from identity_service.domain.errors import ConfigurationError, NotReadyError, ServerBusyError
from identity_service.domain.secret import Secret
from identity_service.domain.visible import comparable

T = TypeVar("T")


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
        return self._run(hash_password, self._parameters, _normalized(password))

    def verify(self, phc: str | None, password: Secret) -> bool:
        """Return whether the password has this hash; always False, after the same time, if `phc` is None."""
        right = self._run(matches, phc or self._dummy_hash, _normalized(password))
        return right and phc is not None

    def is_outdated(self, phc: str) -> bool:
        """Return whether the hash was made with other parameters than the present ones."""
        return not is_made_with(self._parameters, phc)

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
        """Take a place of the queue. Raises ServerBusyError if it is full."""
        with self._lock:
            if self.open == self._places:
                self.refused += 1
                raise ServerBusyError("too many passwords are being checked; try again")
            self.open += 1

    def _leave(self) -> None:
        with self._lock:
            self.open -= 1


def is_common(password: Secret) -> bool:
    """Return whether a password is among those that attackers try first (NIST SP 800-63B section 3.1.1.2).

    Invisible characters and spaces are ignored.
    """
    common = _common_passwords()
    return _normalized(password).casefold() in common or comparable(password.reveal()) in common


def _normalized(password: Secret) -> str:
    """Return the password in Unicode's form NFKC (NIST SP 800-63B section 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password.reveal())


@cache
def _common_passwords() -> frozenset[str]:
    """Return the common passwords, read at the first call: only administration needs them."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # 5 MB that most processes never need

    return frozenset(FREQUENCY_LISTS["passwords"])
