"""What must confirm a write before it is acknowledged: from the operator's word to a command of Redis.

Knows nothing of connections. `WAIT` and `WAITAOF` speak of the writes of the connection they come on, so
they go out right behind the script, on the same one.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

_REPLICAS: Final = re.compile(r"replicas:([1-9][0-9]?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A command that waits until enough copies have the write, and what it must answer."""

    command: str
    needed: int

    def words(self, patience: float) -> tuple[str | int, ...]:
        """The command, giving up after `patience` seconds."""
        milliseconds = max(1, int(patience * 1000))
        if self.command == "WAITAOF":
            return ("WAITAOF", self.needed, 0, milliseconds)
        return ("WAIT", self.needed, milliseconds)

    def is_given(self, answer: Any) -> bool:
        # WAITAOF answers with two numbers: of the server itself, and of its replicas.
        count = answer[0] if isinstance(answer, list) else answer
        return int(count) >= self.needed


def replicas_of(durability: str) -> int:
    """How many replicas must have a write; 0 where the durability does not speak of them.

    Raises ValueError for a text that is no durability.
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
    # Under `appendfsync always` too, where Redis answers after the sync anyway: WAITAOF is an error from
    # the moment that the append-only file is turned off.
    if durability == "local" and waitaof:
        return Confirmation(command="WAITAOF", needed=1)
    return None


def version_of(version: str | None) -> tuple[int, int] | None:
    known = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(known[1]), int(known[2])) if known else None
