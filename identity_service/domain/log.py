"""The change log: everything that can change the answer of Verify, in one order.

Owns the facts, their entries and the places between them. Does not know where the log is kept.
Facts only grow, so folding them is idempotent and needs no order; an entry's `link` and the link of
the entry before it show at once when a log is not the one that was read before.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from identity_service.domain.ids import NO_LINK, Epoch, Link, PrincipalId, SessionId, TokenId

_MAX_POSITION: Final = 2**63 - 1
"""What every store can count to."""
_BEFORE_FIRST: Final = "-"
"""How a revision writes the link of position 0, where there is no entry. No entry has such a link."""
_LONGEST_NAME: Final = 64
_LONGEST_REVISION: Final = 2 * _LONGEST_NAME + 21
"""An epoch, 19 digits, a link, and the dots between them."""
_DASHES: Final = {ord("-"): "0", ord("_"): "0"}
"""What base64url has beside letters and digits."""
_NO_REVISION: Final = "not a revision: expected <epoch>.<position>.<link> as Revoke returned it"
_TOGETHER: Final = "+"
"""Stands between the links of one generation that was raised twice; no link holds it (base64url)."""


def _whole_number(text: str) -> int | None:
    """The number that is written so, in one spelling only; None for any other text."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        return None
    number = int(text)
    return number if str(number) == text and number <= _MAX_POSITION else None


def _is_name(text: str) -> bool:
    """Whether the text is 1 to 64 ASCII letters and digits."""
    return 0 < len(text) <= _LONGEST_NAME and text.isascii() and text.isalnum()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A place in one history of one log, written `<epoch>.<position>.<link>`; clients do not look inside."""

    epoch: Epoch
    position: int
    link: Link | None
    """Of the entry at that position; empty (written `-`) before the first entry, and only there.

    None = unknown: a revision of a client that was written before links were part of it.
    """

    def __str__(self) -> str:
        if self.link is None:
            return f"{self.epoch}.{self.position}"
        return f"{self.epoch}.{self.position}.{self.link or _BEFORE_FIRST}"

    @classmethod
    def parse(cls, text: str) -> "Revision":
        """Return the place that a text names.

        Raises ValueError if the text is not a revision as this class writes it, today or without a link.
        """
        epoch, *rest = text.split(".") if len(text) <= _LONGEST_REVISION else (text,)
        position = _whole_number(rest[0]) if rest else None
        if position is None or not _is_name(epoch) or len(rest) > 2:
            raise ValueError(_NO_REVISION)
        if len(rest) == 1:
            return cls(epoch=Epoch(epoch), position=position, link=None)
        if not _is_name(rest[1].translate(_DASHES)) or (rest[1] == _BEFORE_FIRST) != (position == 0):
            raise ValueError(_NO_REVISION)
        return cls(epoch=Epoch(epoch), position=position, link=Link(rest[1]) if position else NO_LINK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """How often everything of a principal was revoked, and by which entry last. Never raised = absent."""

    number: int
    link: Link
    """Of the log entry that raised it: two logs that split can raise to one number, not to one link."""

    def __str__(self) -> str:
        return f"{self.number}.{self.link}" if self.number else "0"

    @classmethod
    def parse(cls, text: str) -> "Generation":
        """Raises ValueError when `text` is not `<number>.<link>`, nor `0` for one that was never raised."""
        if text == "0":
            return NEVER_RAISED
        count, dot, link = text.partition(".")
        number = _whole_number(count)
        if not number or not (dot and 0 < len(link) <= 64):
            raise ValueError("not a generation")
        return cls(number=number, link=Link(link))

    def is_raised_over(self, held: "Generation | None") -> bool:
        """Whether a token issued under `held` was issued before this generation was raised.

        The same number with another link counts as raised: it comes from a log that split.
        """
        if held is None or self.number > held.number:
            return True
        return self.number == held.number and self.link != held.link

    def merged(self, other: "Generation") -> "Generation":
        """What holds where both are known: the higher one, in whatever order they were learned.

        Two raises to one number come from a log that split. Each revoked what had been issued under
        the other, so neither may win: their links together are a link that no token of either has.
        """
        if self.number != other.number:
            return self if self.number > other.number else other
        return self.refusing(other)

    def refusing(self, other: "Generation") -> "Generation":
        """This number with the links of both: what was issued under either is refused."""
        links = {*self.link.split(_TOGETHER), *other.link.split(_TOGETHER)}
        return replace(self, link=Link(_TOGETHER.join(sorted(links))))


NEVER_RAISED: Final = Generation(number=0, link=NO_LINK)
"""For a principal that a token does not name otherwise: any raise of it counts from then on."""


class RecordKind(StrEnum):
    """What a record of the directory describes."""

    CLIENT = "client"
    USER = "user"
    KEY = "key"
    ISSUER = "issuer"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDenied:
    """The token of this id is refused until then."""

    token_id: TokenId
    deny_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded:
    """The session is over; access tokens of it are refused until `deny_until`."""

    session_id: SessionId
    deny_until: datetime
    """When the last access token of the session has surely expired."""
    end_until: datetime
    """When the session itself would have ended at the latest: the store refuses to refresh until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRaised:
    """Everything issued under a lower generation of this principal is refused."""

    principal: PrincipalId
    number: int
    origin: Link | None = None
    """The link of the entry that raised it, where this one puts back what a log has lost; None = its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordChanged:
    """A record of the directory was written or deleted: whoever holds a copy reads it again."""

    kind: RecordKind
    id: str


Fact = TokenDenied | SessionEnded | GenerationRaised
"""What only grows, and is put back where a log has lost it."""
Change = Fact | RecordChanged


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """High-water marks: the longest that was ever configured, and the latest time that was ever steady."""

    lifetime: timedelta = timedelta(0)
    """The longest lifetime of access tokens that was ever configured."""
    session: timedelta = timedelta(0)
    """The longest lifetime of sessions that was ever configured."""
    leeway: timedelta = timedelta(0)
    """The longest leeway that was ever configured."""
    time: datetime | None = None
    """The latest wall-clock time whose offset had held for 10 minutes; None = there was none yet."""
    latest: datetime | None = None
    """The latest time that the store's clock ever showed at a heartbeat, for however short a while."""

    def merged(self, other: "Marks") -> "Marks":
        """The longer of each, and the later of the times."""

        def later(first: datetime | None, second: datetime | None) -> datetime | None:
            return max((time for time in (first, second) if time is not None), default=None)

        return Marks(
            lifetime=max(self.lifetime, other.lifetime),
            session=max(self.session, other.session),
            leeway=max(self.leeway, other.leeway),
            time=later(self.time, other.time),
            latest=later(self.latest, other.latest),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The last heartbeat of one process."""

    process: str
    time: datetime
    """By the store's clock."""
    status: str
    """How the process saw its clock and the store; empty = it did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack:
    """What came of sending facts to a store again."""

    end: Revision
    """Of the log that holds them all: whoever has read this place has read them."""
    absent: int
    """How many of them the store lacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a log, and what time it is where the log is kept."""

    epoch: Epoch
    position: int
    """Of the last entry; 0 = no entry yet."""
    link: Link
    """Of the last entry; empty before the first."""
    time: datetime
    """The store's clock."""
    floor: int = 0
    """Entries up to this position may be missing: trimmed, or lost before the log got this epoch."""
    retention: timedelta = timedelta(0)
    """How far back the log must reach: the longest that any process ever asked for."""
    whole: bool = True
    """Whether log and state hold what the head counts; False = entries or generations were taken away."""
    complete: bool = True
    """False = the log got a new epoch, and what the state holds has not been put back into it yet."""
    marks: Marks = Marks()
    """The longest and the latest that any process of this store ever knew."""

    @property
    def revision(self) -> Revision:
        return Revision(epoch=self.epoch, position=self.position, link=self.link)


class LogEntry(NamedTuple):
    """One change and its place. No dataclass: making a million of them is what a start waits for."""

    position: int
    link: Link
    previous_link: Link
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """What came of reading the log: some entries, and its end as it was in the same moment."""

    entries: tuple[LogEntry, ...]
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What a write put into the log (or found there, when it was a repetition)."""

    revision: Revision
    """The place that holds it, with the link of the entry there."""
    changes: tuple[tuple[Change, Link], ...]
    """The changes with the links of their entries, for the writer's own replica."""
