"""The operations of the machine on a kind of store: open it, read its content, and damage it.

Reading and damaging do not use code of the service, so that its bugs cannot hide here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from identity_service.domain.log import Change, GenerationRaised, SessionEnded, TokenDenied
from identity_service.domain.ports import EventLog
from identity_service.domain.store import Store
from tests.machine.clocks import PartyClock

if TYPE_CHECKING:
    from tests.machine.site import Site


@dataclass(kw_only=True)
class Held:
    """The facts in the store."""

    logged: set[str] = field(default_factory=set)
    """The ids of tokens and sessions that log entries deny."""
    kept: set[str] = field(default_factory=set)
    """The ids of tokens and sessions that the state denies."""
    ended: set[str] = field(default_factory=set)
    """The sessions that Refresh refuses, by the stored fact or by the mark in the record."""
    generations: dict[str, int] = field(default_factory=dict)
    """The highest generation of each principal in the state."""
    logged_generations: dict[str, int] = field(default_factory=dict)
    """The highest generation of each principal in the log."""

    def fold(self, change: Change) -> None:
        """Add one entry of the log."""
        match change:
            case TokenDenied(token_id=id_):
                self.logged.add(id_)
            case SessionEnded(session_id=id_):
                self.logged.add(id_)
            case GenerationRaised(principal=principal, number=number):
                self.logged_generations[principal] = max(number, self.logged_generations.get(principal, 0))
            case _:
                pass


RECORDS: Final = ("client", "user", "key", "index", "names")
"""Kinds of keys that only an operator can restore after a loss, before processes are restarted."""
GROUPS: Final = {
    "what denies": ("denial", "end", "request", "used"),
    "head or log": ("head", "log", "fence"),
    "generations": ("generations", "generation"),
    "record": RECORDS,
    "other": ("session", "sessions", "heartbeat", "heartbeats", "audit"),
}
"""Everything that a store contains, in groups, so that losses of each kind are about equally frequent."""


class Target(Protocol):
    """A store, with the operations of an operator on it."""

    has_clock: bool
    """True if the store has its own clock, which is not that of a process."""

    @property
    def kinds(self) -> Sequence[str]:
        """Return the kinds of keys or rows of which one may be deleted."""

    def open(self, clock: PartyClock, event_log: EventLog) -> Store:
        """Open the store as a process does."""

    def held(self) -> Held: ...

    def positions(self) -> Sequence[int]:
        """Return the positions of the entries in the log."""

    def head(self) -> tuple[str, int, str, int]:
        """Return epoch, position, link and floor; zeros if there is no head."""

    def key_ids(self) -> set[str]:
        """Return the ids of the signing keys in the store."""

    def remove_entries(self, first: int, last: int) -> int:
        """Delete these entries; return their number."""

    def delete(self, kind: str, which: int) -> str:
        """Delete one key or row of a kind; return its name, or "" if there is none."""

    def restore_deleted(self, kinds: Sequence[str]) -> None:
        """Restore the deleted keys of these kinds that are still missing."""

    def copy(self) -> None:
        """Keep a copy of the whole store."""

    def restore_copy(self) -> None: ...

    def spoil(self, site: "Site", how: int, which: int, crashes: bool) -> Sequence[str]:
        """Break what makes acknowledged writes durable, while process `which` works; return the effects."""

    def mend(self) -> None:
        """Restore the correct configuration, and wait until it is in effect."""

    def close(self) -> None: ...


def spot(which: int, names: Sequence[str]) -> str:
    """Return one of the names, or "" if there are none."""
    return names[which % len(names)] if names else ""
