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
    """The revocations that a store contains."""

    logged: set[str] = field(default_factory=set)
    """Ids of tokens and sessions that an entry of the log denies."""
    kept: set[str] = field(default_factory=set)
    """Ids of tokens and sessions that the state denies."""
    ended: set[str] = field(default_factory=set)
    """Ids of sessions that Refresh refuses, because of the fact or of the mark on the record of the
    session."""
    generations: dict[str, int] = field(default_factory=dict)
    """For each principal, the number of its generation in the state."""
    logged_generations: dict[str, int] = field(default_factory=dict)
    """For each principal, the highest number to which an entry of the log has raised it."""

    def fold(self, change: Change) -> None:
        """Add the fact that an entry of the log contains."""
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
"""Kinds of keys that, once lost, only an operator can restore, who restarts the processes after that."""
GROUPS: Final = {
    "what denies": ("denial", "end", "request", "used"),
    "head or log": ("head", "log", "fence"),
    "generations": ("generations", "generation"),
    "record": RECORDS,
    "other": ("session", "sessions", "heartbeat", "heartbeats", "audit"),
}
"""All kinds of keys in groups. A step picks a group first, so that each kind of loss is about as frequent."""


class Target(Protocol):
    """A store, with the operations that an operator or an accident can perform on it."""

    has_clock: bool
    """True if the store has its own clock; false if it uses the clock of each process."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of keys or rows that a step may delete."""

    def open(self, clock: PartyClock, event_log: EventLog) -> Store:
        """Open the store as a process does."""

    def held(self) -> Held: ...

    def positions(self) -> Sequence[int]:
        """Return the positions of the entries that the log holds."""

    def head(self) -> tuple[str, int, str, int]:
        """Return epoch, position, link and floor of the log; zeros if there is no head."""

    def key_ids(self) -> set[str]:
        """Return the ids of the signing keys in the store."""

    def remove_entries(self, first: int, last: int) -> int:
        """Delete the log entries from `first` to `last`; return how many there were."""

    def delete(self, kind: str, which: int) -> str:
        """Delete one key or row of a kind; return its name, or "" if there is none."""

    def restore_deleted(self, kinds: Sequence[str]) -> None:
        """Restore the deleted keys of these kinds that are still absent."""

    def copy(self) -> None:
        """Keep a copy of the whole store, for `restore_copy`."""

    def restore_copy(self) -> None: ...

    def spoil(self, site: "Site", how: int, which: int, crashes: bool) -> Sequence[str]:
        """Break the durability of the store while process `which` works; return what took effect."""

    def mend(self) -> None:
        """Undo what `spoil` has done, and wait until the store is durable again."""

    def close(self) -> None: ...


def spot(which: int, names: Sequence[str]) -> str:
    """Return the name that the number `which` picks, or "" if there are no names."""
    return names[which % len(names)] if names else ""
