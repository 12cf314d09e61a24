"""The keys of one issuer from a local source: the issuer's record, or a file."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from identity_service.adapters.remote_keys.files import FileState, read_file, state_of
from identity_service.domain.errors import IssuerUnreachableError
from identity_service.domain.ports import Clock, EventLog, VerifyingKey
from identity_service.jose.jwks import MAX_SET_BYTES, KeySet

_CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks of the file."""
_MAX_AGE_SECONDS: Final = 86400.0
"""Seconds for which the last valid content is used while the file cannot be read."""


class InlineKeys:
    """Keys that an administrator has written into the issuer's record."""

    def __init__(self, issuer: str, jwks: str, read: Callable[[bytes], KeySet], event_log: EventLog) -> None:
        try:
            self._keys = read(jwks.encode())
        except ValueError as error:
            self._keys = KeySet(keys={})
            event_log.record("issuer_keys_failed", issuer=issuer, why=str(error))
        if self._keys.unused:
            event_log.record("issuer_keys_read", issuer=issuer, **self._keys.summary())

    def find(self, key_id: str) -> VerifyingKey | None:
        """Return the key with this id, or None."""
        return self._keys.keys.get(key_id)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class FileKeys:
    """Keys in a file that another program keeps up to date; the file is checked at most once a second."""

    def __init__(
        self, issuer: str, path: Path, *, read: Callable[[bytes], KeySet], clock: Clock, event_log: EventLog
    ) -> None:
        self._issuer = issuer
        self._path = path
        self._read = read
        self._clock = clock
        self._event_log = event_log
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._state: FileState = ()
        """The state of the file that the keys were read from."""
        self._confirmed = 0.0
        self._checked = float("-inf")
        self._why = ""

    def find(self, key_id: str) -> VerifyingKey | None:
        """Return the key with this id, or None if the file has none.

        Raises IssuerUnreachableError if the file has never been valid, or not for a day.
        """
        with self._lock:
            now = self._clock.monotonic()
            if now - self._checked >= _CHECK_INTERVAL:
                self._checked = now
                self._refresh(now)
            if self._keys is None or now - self._confirmed > _MAX_AGE_SECONDS:
                raise IssuerUnreachableError
            return self._keys.keys.get(key_id)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _refresh(self, now: float) -> None:
        """Read the file if it has changed."""
        try:
            if state_of(self._path.stat()) != self._state:
                content, state = read_file(self._path, MAX_SET_BYTES)
                self._keys, self._state = self._read(content), state
                facts = self._keys.summary()
                self._event_log.record("issuer_keys_read", issuer=self._issuer, **facts)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            why = f"{self._path} cannot be read: {reason}"
            if why != self._why:  # recorded once: the file may be checked every second
                self._why = why
                self._event_log.record("issuer_keys_failed", issuer=self._issuer, why=why)
        else:
            self._confirmed, self._why = now, ""
