"""Durability: what must confirm a write before it is acknowledged, from the setting to a command of Redis.

This module does not know connections. `WAIT` and `WAITAOF` cover the writes of the connection on which they
are sent, so they are sent directly after the script on the same connection.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

_REPLICAS: Final = re.compile(r"replicas:([1-9][0-9]?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The command that waits until enough copies have the write, and the number that it must answer."""

    command: str
    """`WAIT` or `WAITAOF`."""
    needed: int
    """How many must have the write: replicas for `WAIT`, for `WAITAOF` the append-only file of the server
    (1)."""

    def words(self, patience: float) -> tuple[str | int, ...]:
        """Return the command and its arguments; the server stops waiting after `patience` seconds."""
        milliseconds = max(1, int(patience * 1000))
        if self.command == "WAITAOF":
            return ("WAITAOF", self.needed, 0, milliseconds)
        return ("WAIT", self.needed, milliseconds)

    def is_given(self, answer: Any) -> bool:
        """Return whether the answer to the command confirms the write."""
        # WAITAOF answers two numbers: of the server itself, and of its replicas.
        count = answer[0] if isinstance(answer, list) else answer
        return int(count) >= self.needed


def replicas_of(durability: str) -> int:
    """Return how many replicas must have a write: N for `replicas:N`, otherwise 0.

    Raises ValueError if the text is not unsynced, local or replicas:N with N from 1 to 99.
    """
    if durability in ("unsynced", "local"):
        return 0
    named = _REPLICAS.fullmatch(durability)
    if named is None:
        raise ValueError("must be unsynced, local or replicas:N with N from 1 to 99")
    return int(named[1])


def confirmation_of(durability: str, *, waitaof: bool) -> Confirmation | None:
    """Return the command to send behind each write; None = the answer to the write confirms it.

    Args:
        durability: unsynced, local or replicas:N.
        waitaof: whether the server has WAITAOF, and this user may call it.
    """
    if replicas := replicas_of(durability):
        return Confirmation(command="WAIT", needed=replicas)
    # Also with `appendfsync always`, although Redis then answers after the sync: WAITAOF is an error as soon
    # as the append-only file is turned off, which the answer to the write would not show.
    if durability == "local" and waitaof:
        return Confirmation(command="WAITAOF", needed=1)
    return None


def version_of(version: str | None) -> tuple[int, int] | None:
    """Return the major and minor version from `redis_version`, or None if it is not known."""
    known = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(known[1]), int(known[2])) if known else None
