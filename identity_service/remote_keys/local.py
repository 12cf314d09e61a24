"""The keys of one issuer that need no network: those of the record itself, and those of a file."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import Final

from identity_service.domain.errors import IssuerUnreachableError
from identity_service.domain.ports import Clock, Journal, VerifyingKey
from identity_service.remote_keys.remote import Keys

_LOOK_AGAIN: Final = 1.0
_KEPT: Final = 86400.0
"""Seconds for which the last good content of a file counts while it cannot be read."""


class InlineKeys:
    """Keys that an administrator has written into the record."""

    def __init__(self, issuer: str, jwks: str, read: Callable[[bytes], Keys], journal: Journal) -> None:
        try:
            self._keys = read(jwks.encode())
        except ValueError as error:
            self._keys = {}
            journal.record("issuer_keys_failed", issuer=issuer, why=str(error))

    def find(self, key_id: str) -> VerifyingKey | None:
        return self._keys.get(key_id)

    def close(self) -> None:
        """There is nothing to release."""


class FileKeys:
    """Keys in a file that something else keeps up to date, looked at at most once a second."""

    def __init__(
        self,
        issuer: str,
        path: Path,
        *,
        max_bytes: int,
        read: Callable[[bytes], Keys],
        clock: Clock,
        journal: Journal,
    ) -> None:
        self._issuer = issuer
        self._path = path
        self._max_bytes = max_bytes
        self._read = read
        self._clock = clock
        self._journal = journal
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._identity: tuple[int, ...] = ()
        """Of the file that the keys are from: a file that was replaced has another inode or another time."""
        self._confirmed = 0.0
        self._looked = float("-inf")
        self._why = ""

    def find(self, key_id: str) -> VerifyingKey | None:
        """Raises IssuerUnreachableError where the file cannot be read and was not for a day."""
        with self._lock:
            now = self._clock.monotonic()
            if now - self._looked >= _LOOK_AGAIN:
                self._looked = now
                self._look(now)
            if self._keys is None or now - self._confirmed > _KEPT:
                raise IssuerUnreachableError
            return self._keys.get(key_id)

    def close(self) -> None:
        """There is nothing to release."""

    def _look(self, now: float) -> None:
        try:
            identity = _identity(self._path.stat())
            if identity != self._identity:
                with open(self._path, "rb", opener=_open_at_once) as file:
                    identity = _identity(os.fstat(file.fileno()))
                    keys = self._read(file.read(self._max_bytes + 1))
                self._keys, self._identity = keys, identity
                self._journal.record("issuer_keys_read", issuer=self._issuer, keys=len(keys))
        except (OSError, ValueError) as error:
            self._fail("it cannot be read" if isinstance(error, OSError) else str(error))
        else:
            self._confirmed, self._why = now, ""

    def _fail(self, why: str) -> None:
        """Once for each reason: it is looked at with every token."""
        if why != self._why:
            self._why = why
            self._journal.record("issuer_keys_failed", issuer=self._issuer, why=why)


def _open_at_once(path: str, flags: int) -> int:
    """To open a named pipe waits for a writer, and every caller with it; this does not."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _identity(stat: os.stat_result) -> tuple[int, ...]:
    """Tell this state of a file from others. Raises ValueError if it is no regular file."""
    if not S_ISREG(stat.st_mode):
        raise ValueError("it is no regular file: name a file that holds a key set")
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size
