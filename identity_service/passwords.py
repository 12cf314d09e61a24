"""Passwords: argon2id (RFC 9106) in threads of its own behind a bounded queue, and which ones are too common.

The only importer of `argon2` and of `zxcvbn`. Hashing takes 64 MiB and tens of milliseconds, so at most as
many run as there are threads, and who finds the queue full is told to come again.
"""

import os
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeVar

import argon2

from identity_service.domain.errors import ServerBusyError
from identity_service.domain.secret import Secret

T = TypeVar("T")

_NICENESS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Argon2Config:
    """RFC 9106 section 4, second recommended option, by default."""

    time_cost: int = 3
    memory_kib: int = 64 * 1024
    parallelism: int = 4
    threads: int = 2
    queue: int = 16
    """How many may wait beyond those that are at work."""


class Argon2Hasher:
    """Implements the port PasswordHasher."""

    def __init__(self, config: Argon2Config) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=config.time_cost, memory_cost=config.memory_kib, parallelism=config.parallelism
        )
        self._pool = ThreadPoolExecutor(
            config.threads, thread_name_prefix="identity-password", initializer=_yield_to_others
        )
        self._places = threading.BoundedSemaphore(config.threads + config.queue)
        # What an unknown account is compared with, so that it costs as much as a known one.
        self._nobody = self._argon2.hash("the password of nobody")

    def hash(self, password: Secret) -> str:
        return self._run(lambda: self._argon2.hash(_normalized(password)))

    def verify(self, phc: str | None, password: Secret) -> bool:
        right = self._run(lambda: self._matches(phc or self._nobody, password))
        return right and phc is not None

    def is_outdated(self, phc: str) -> bool:
        return self._argon2.check_needs_rehash(phc)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _matches(self, phc: str, password: Secret) -> bool:
        try:
            return self._argon2.verify(phc, _normalized(password))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    def _run(self, work: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            raise ServerBusyError("too many passwords are being checked; try again")
        try:
            return self._pool.submit(work).result()
        finally:
            self._places.release()


def is_common(password: Secret) -> bool:
    """Whether a password is among those that attackers try first (NIST SP 800-63B section 3.1.1.2)."""
    return _normalized(password).casefold() in _common_passwords()


def _normalized(password: Secret) -> str:
    """One form for all ways to type the same characters (NIST SP 800-63B section 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password.reveal())


@cache
def _common_passwords() -> frozenset[str]:
    """Read when the first password is set: only administration needs it."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # 5 MB that most processes never need

    return frozenset(FREQUENCY_LISTS["passwords"])


def _yield_to_others() -> None:
    """Let threads that answer from memory go first: argon2's own threads inherit this (Linux only)."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
