"""The operations of the machine on a kind of store: opening it, reading its content, and damaging it.

Reading and damaging bypass the service, so that nothing here relies on the code of the service.
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
    """The facts that are in the store."""

    logged: set[str] = field(default_factory=set)
    """Ids of tokens and sessions that an entry of the log denies."""
    kept: set[str] = field(default_factory=set)
    """The same that the state denies."""
    ended: set[str] = field(default_factory=set)
    """Sessions that Refresh refuses, by the fact or by the mark on the record."""
    generations: dict[str, int] = field(default_factory=dict)
    """The highest number of each principal in the state."""
    logged_generations: dict[str, int] = field(default_factory=dict)
    """The highest number of each principal that an entry of the log raised."""

    def fold(self, change: Change) -> None:
        """Take in one entry of the log."""
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
"""Kinds of keys whose loss only an operator can repair, who restores them and restarts."""
GROUPS: Final = {
    "what denies": ("denial", "end", "request", "used"),
    "head or log": ("head", "log", "fence"),
    "generations": ("generations", "generation"),
    "record": RECORDS,
    "other": ("session", "sessions", "heartbeat", "heartbeats", "audit"),
}
"""Everything that a store holds, so that each kind of loss is met about as often."""


class Target(Protocol):
    """One store, as the machine's operator reaches it."""

    has_clock: bool
    """True if the store has a clock that is not that of a process."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of keys or rows that may be deleted, one at a time."""

    def open(self, clock: PartyClock, event_log: EventLog) -> Store:
        """Open the store as a process does."""

    def held(self) -> Held: ...

    def positions(self) -> Sequence[int]:
        """Return the positions of the entries that the log holds."""

    def head(self) -> tuple[str, int, str, int]:
        """Epoch, position, link and floor; zeros if there is no head."""

    def key_ids(self) -> set[str]:
        """Return the ids of the keys that it holds."""

    def remove_entries(self, first: int, last: int) -> int:
        """Returns how many there were."""

    def delete(self, kind: str, which: int) -> str:
        """Delete one key or row of a kind; returns its name, or "" if there is none."""

    def restore_deleted(self, kinds: Sequence[str]) -> None:
        """Restore the deleted keys of these kinds that are still absent."""

    def copy(self) -> None:
        """Keep a copy of everything."""

    def restore_copy(self) -> None: ...

    def spoil(self, site: "Site", how: int, which: int, crashes: bool) -> Sequence[str]:
        """Break what keeps acknowledged writes, while process `which` works; returns what took effect."""

    def mend(self) -> None:
        """Set it up as it should be again, and wait until it is."""

    def close(self) -> None: ...


def spot(which: int, names: Sequence[str]) -> str:
    """One of the names, or "" if there are none."""
    return names[which % len(names)] if names else ""
