"""The change log: the ordered list of everything that can change an answer of Verify.

The module contains the facts, the entries and the revisions that name their places. It does not know where
the log is stored. Facts only grow, so applying them is idempotent and needs no order. An entry
holds its own `link` and the link of the entry before it, so a reader notices at once that a log is not the
one it read before.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from identity_service.domain.ids import NO_LINK, Epoch, Link, PrincipalId, SessionId, TokenId

_MAX_POSITION: Final = 2**63 - 1
"""The highest position, which every store can represent."""
_BEFORE_FIRST: Final = "-"
"""The text of a revision's link at position 0, where there is no entry. No entry has such a link."""
_LONGEST_NAME: Final = 64
_LONGEST_REVISION: Final = 2 * _LONGEST_NAME + 21
"""The length of the longest revision: an epoch, 19 digits, a link, and the two dots between them."""
_DASHES: Final = {ord("-"): "0", ord("_"): "0"}
"""The characters of base64url that are neither letters nor digits; a digit replaces them in `isalnum`
checks."""
_NO_REVISION: Final = "not a revision: expected <epoch>.<position>.<link> as Revoke returned it"
_LINK_SEPARATOR: Final = "+"
"""Separates the links of a generation that was raised twice to one number; no link contains it
(base64url)."""


def _whole_number(text: str) -> int | None:
    """Return the number that a text spells in its only canonical form, or None for any other text."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        return None
    number = int(text)
    return number if str(number) == text and number <= _MAX_POSITION else None


def _is_name(text: str) -> bool:
    """Return whether the text is 1 to 64 ASCII letters and digits."""
    return 0 < len(text) <= _LONGEST_NAME and text.isascii() and text.isalnum()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A place in one history of one log, written `<epoch>.<position>.<link>`; opaque to clients."""

    epoch: Epoch
    position: int
    link: Link | None
    """The link of the entry at that position; empty (written `-`) at position 0, and only there.

    None = unknown: the revision was returned to a client before links were part of a revision.
    """

    def __str__(self) -> str:
        if self.link is None:
            return f"{self.epoch}.{self.position}"
        return f"{self.epoch}.{self.position}.{self.link or _BEFORE_FIRST}"

    @classmethod
    def parse(cls, text: str) -> "Revision":
        """Return the revision that a text spells.

        Raises ValueError if the text is not a revision as `__str__` writes it, with or without a link.
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
    """The number of times that everything of a principal was revoked, and the entry that did it last.

    A principal of which nothing was ever revoked has no generation.
    """

    number: int
    link: Link
    """The link of the log entry that raised it. Two logs that diverged can raise to the same number, but not
    with the same link."""

    def __str__(self) -> str:
        return f"{self.number}.{self.link}" if self.number else "0"

    @classmethod
    def parse(cls, text: str) -> "Generation":
        """Return the generation that a text spells: `<number>.<link>`, or `0` if it was never raised.

        Raises ValueError for any other text.
        """
        if text == "0":
            return NEVER_RAISED
        count, dot, link = text.partition(".")
        number = _whole_number(count)
        if not number or not (dot and 0 < len(link) <= 64):
            raise ValueError("not a generation")
        return cls(number=number, link=Link(link))

    def is_raised_over(self, held: "Generation | None") -> bool:
        """Return whether a token issued under `held` was issued before this generation was raised.

        The same number with another link counts as raised: it comes from a log that diverged.
        """
        if held is None or self.number > held.number:
            return True
        return self.number == held.number and self.link != held.link

    def merged(self, other: "Generation") -> "Generation":
        """Return the generation that holds if both are known: the higher one, in whatever order they came.

        Two raises to one number come from logs that diverged. Each raise revoked the tokens issued under the
        other, so neither may win: the result joins both links, and no token has such a link.
        """
        if self.number != other.number:
            return self if self.number > other.number else other
        return self.refusing(other)

    def refusing(self, other: "Generation") -> "Generation":
        """Return this number with the links of both, so that tokens issued under either are refused."""
        links = {*self.link.split(_LINK_SEPARATOR), *other.link.split(_LINK_SEPARATOR)}
        return replace(self, link=Link(_LINK_SEPARATOR.join(sorted(links))))


NEVER_RAISED: Final = Generation(number=0, link=NO_LINK)
"""The generation of a principal whose generation was never raised; any raise of it revokes the token."""


class RecordKind(StrEnum):
    """The kinds of records in the directory."""

    CLIENT = "client"
    USER = "user"
    KEY = "key"
    ISSUER = "issuer"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDenied:
    """The fact that the token with this id is refused until `deny_until`."""

    token_id: TokenId
    deny_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded:
    """The fact that a session has ended; its access tokens are refused until `deny_until`."""

    session_id: SessionId
    deny_until: datetime
    """The time by which the last access token of the session has expired."""
    end_until: datetime
    """The latest time at which the session would have ended by itself; the store refuses to refresh it until
    then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRaised:
    """The fact that everything issued under a lower generation of this principal is refused."""

    principal: PrincipalId
    number: int
    origin: Link | None = None
    """The link of the entry that first raised it, if this entry is a repair of it; None = this entry's own
    link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordChanged:
    """A record of the directory was written or deleted; a process that caches it reads it again."""

    kind: RecordKind
    id: str


Fact = TokenDenied | SessionEnded | GenerationRaised
"""A change whose effect only grows; it is appended again (repair) if a log has lost it."""
Change = Fact | RecordChanged


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """High-water marks: the longest lifetimes and leeway ever configured, and the latest times ever seen."""

    lifetime: timedelta = timedelta(0)
    """The longest lifetime of access tokens that was ever configured."""
    session: timedelta = timedelta(0)
    """The longest lifetime of sessions that was ever configured."""
    leeway: timedelta = timedelta(0)
    """The longest leeway that was ever configured."""
    time: datetime | None = None
    """The latest wall-clock time at which the clock had run without a step for 10 minutes; None = no such
    time yet."""
    latest: datetime | None = None
    """The latest time that the store's clock ever showed at a heartbeat, however briefly."""

    def merged(self, other: "Marks") -> "Marks":
        """Return the longer of each duration, and the later of each time."""

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
    """The time of the heartbeat by the store's clock."""
    status: str
    """A text that says how the process saw its clock and the store; empty = not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairResult:
    """The result of a repair: of sending facts to the store again."""

    end: Revision
    """The end of the log that holds all of these facts: a reader that has reached it has read them."""
    absent: int
    """The number of these facts that the store lacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a log, and the time by the clock of its store."""

    epoch: Epoch
    position: int
    """The position of the last entry; 0 = no entry yet."""
    link: Link
    """The link of the last entry; empty if there is no entry yet."""
    time: datetime
    """The time by the store's clock."""
    floor: int = 0
    """Entries up to this position may be missing: they were trimmed, or lost before the log got this
    epoch."""
    retention: timedelta = timedelta(0)
    """The time for which entries must be kept: the longest retention that any process ever asked for."""
    whole: bool = True
    """True if log and state hold as much as the head counts; False = entries or generations were lost."""
    complete: bool = True
    """True if the log holds every fact of the state; False = the log got a new epoch, and `rebuild` has not
    run yet."""
    marks: Marks = Marks()
    """The highest marks that any process of this store ever wrote."""

    @property
    def revision(self) -> Revision:
        """Return the place of the last entry."""
        return Revision(epoch=self.epoch, position=self.position, link=self.link)


class LogEntry(NamedTuple):
    """One change and its place in the log.

    Not a dataclass: at its start a process makes up to a million of them, and waits for that.
    """

    position: int
    link: Link
    previous_link: Link
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """A page of the log: some entries, and the end of the log as it was at the same moment."""

    entries: tuple[LogEntry, ...]
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """The entries that a write appended, or the existing ones if the write repeated an earlier one."""

    revision: Revision
    """The place of the last of these entries."""
    changes: tuple[tuple[Change, Link], ...]
    """The changes with the links of their entries, for the replica of the process that wrote them."""
