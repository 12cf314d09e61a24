"""The DPoP proofs that this process accepted lately, in bounded memory."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from identity_service.domain.errors import ServerBusyError

MAX_PROOFS: Final = 400_000
"""The largest number of proofs that are remembered: those of 2,500 calls a second. They take 40 MiB."""


class ProofWindow:
    """A set whose members are forgotten when one to two spans have passed, and never because it is full.

    It has two halves: when a span has passed, the young half becomes the old one, which is dropped.
    """

    def __init__(self, boot: Callable[[], float], span: timedelta, *, limit: int = MAX_PROOFS) -> None:
        """Begin empty. `boot` is the boot clock in seconds, which no change of the wall clock moves."""
        self._boot = boot
        self._span = span.total_seconds()
        self._limit = limit
        self._lock = threading.Lock()
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        self._turn = boot() + self._span

    def add(self, member: bytes) -> bool:
        """Add a member; return False if it is there already. Raises ServerBusyError if the set is full."""
        now = self._boot()
        with self._lock:
            late = now - self._turn
            if late >= 0:
                self._old = self._young if late < self._span else set()
                self._young = set()
                self._turn += self._span * (1 + late // self._span)
            if member in self._young or member in self._old:
                return False
            if len(self._young) + len(self._old) >= self._limit:
                raise ServerBusyError(
                    f"this process remembers too many DPoP proofs ({self._limit:,}); try another instance",
                    retry_after=self._turn - now,
                )
            self._young.add(member)
        return True
