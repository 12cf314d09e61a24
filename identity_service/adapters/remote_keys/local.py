"""The keys of one issuer that need no network: those of the record itself, and those of a file."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from identity_service.adapters.remote_keys.files import FileState, read_file, state_of
from identity_service.adapters.remote_keys.told import keys_read
from identity_service.domain.errors import IssuerUnreachableError
from identity_service.domain.ports import Clock, EventLog, VerifyingKey
from identity_service.jose.jwks import KeySet

_LOOK_AGAIN: Final = 1.0
_KEPT: Final = 86400.0
"""Seconds for which the last good content of a file counts while it cannot be read."""


class InlineKeys:
    """Keys that an administrator has written into the record."""

    def __init__(self, issuer: str, jwks: str, read: Callable[[bytes], KeySet], event_log: EventLog) -> None:
        try:
            self._keys = read(jwks.encode())
        except ValueError as error:
            self._keys = KeySet(keys={})
            event_log.record("issuer_keys_failed", issuer=issuer, why=str(error))

        else:
            if self._keys.unused:
                keys_read(event_log, issuer, self._keys)

    def find(self, key_id: str) -> VerifyingKey | None:
        return self._keys.keys.get(key_id)

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
        read: Callable[[bytes], KeySet],
        clock: Clock,
        event_log: EventLog,
    ) -> None:
        self._issuer = issuer
        self._path = path
        self._max_bytes = max_bytes
        self._read = read
        self._clock = clock
        self._event_log = event_log
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._state: FileState = ()
        """Of the file that the keys are from."""
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
            return self._keys.keys.get(key_id)

    def close(self) -> None:
        """There is nothing to release."""

    def _look(self, now: float) -> None:
        try:
            if state_of(self._path.stat()) != self._state:
                content, state = read_file(self._path, self._max_bytes)
                self._keys, self._state = self._read(content), state
                keys_read(self._event_log, self._issuer, self._keys)
        except (OSError, ValueError) as error:
            self._fail("it cannot be read" if isinstance(error, OSError) else str(error))
        else:
            self._confirmed, self._why = now, ""

    def _fail(self, why: str) -> None:
        """Once for each reason: it is looked at with every token."""
        if why != self._why:
            self._why = why
            self._event_log.record("issuer_keys_failed", issuer=self._issuer, why=why)
