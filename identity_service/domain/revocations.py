"""The revocations that one process knows: the denylist and the generations, built from the change log.

Facts only grow: a denial may be extended, never shortened; a generation raised, never lowered.
Entries may therefore be applied twice and in any order. Threads that verify tokens read without a lock, since
every change is one assignment; the caller makes sure that only one thread at a time writes.
"""

import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Self

from identity_service.domain.generations import MergedGenerations
from identity_service.domain.ids import Link, PrincipalId, SessionId, TokenId, is_key_principal
from identity_service.domain.log import (
    Change,
    Fact,
    Generation,
    GenerationRaised,
    RecordChanged,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.tokens import AccessToken

_MINUTE: Final = 60
"""Seconds."""
_FACTOR: Final = secrets.randbits(1024) | 1
"""A number that callers do not know, and that differs from process to process; see `number_of`."""
_RAISED: Final = "all tokens of one of the token's principals were revoked"
_RETIRED: Final = "a key that the token was made with was retired"


class Denylist:
    """The denylist: a map from token and session ids to the end of their denial.

    The map has an integer in place of each id, which takes 48 bytes of memory; an id as text takes 80 on
    Python 3.11. Times are rounded up to the minute: a denial may last longer than asked, and a million of
    them share a few integers. So a full garbage collection has nothing to visit here.
    """

    __slots__ = ("_minutes", "until")

    def __init__(self) -> None:
        self.until: dict[int, int] = {}
        """The number of an id → minute since the Unix epoch. Public so that Verify can look here directly."""
        self._minutes: dict[int, int] = {}
        """Each minute in `until`, mapped to the integer that all its denials share."""

    def __contains__(self, id_: str | None) -> bool:
        return id_ is not None and number_of(id_) in self.until

    def __len__(self) -> int:
        return len(self.until)

    def items(self) -> Iterator[tuple[str, datetime]]:
        """Yield all current denials with their ends; others may come and go during the iteration."""
        for number in list(self.until):  # `list` runs as one step of the interpreter: no lock
            minute = self.until.get(number)
            if minute is not None:
                yield _id(number), _moment(minute)

    def add(self, id_: str, deny_until: datetime) -> None:
        """Deny an id until `deny_until`, rounded up to the minute.

        If the id is denied for longer already, nothing changes.
        """
        number, minute = number_of(id_), _minute(deny_until)
        if minute > self.until.get(number, -1):
            self.until[number] = self._minutes.setdefault(minute, minute)

    def evict(self, now: datetime) -> int:
        """Remove the denials that ended before `now`, and return how many were removed.

        Reads all denials if one of them may have ended, which is so once in a minute at most: 50 ms for a
        million of them, while other threads run.
        """
        current = math.floor(now.timestamp() / _MINUTE)
        past = [minute for minute in self._minutes if minute < current]
        if not past:
            return 0
        ended = [number for number, minute in self.until.items() if minute < current]
        for number in ended:
            del self.until[number]
        for minute in past:
            del self._minutes[minute]
        return len(ended)


def number_of(id_: str) -> int:
    """Return an id as an integer of the same length; different ids have different integers.

    Python hashes an integer by its remainder, so a caller that may revoke ids of its choice could choose a
    hundred thousand with one hash, and each further denial would compare it with all of them. So the id is
    multiplied by an odd number that no caller knows, modulo a power of two. The highest bit is the length.
    """
    text = id_.encode()
    end = 1 << 8 * len(text)
    mask = end - 1
    return int.from_bytes(text, "little") * (_FACTOR & mask) & mask | end


def _id(number: int) -> str:
    """Return the id of an integer that `number_of` returned."""
    length = number.bit_length() // 8
    end, inverse = _end_and_inverse(length)
    return (number * inverse % end).to_bytes(length, "little").decode()


@lru_cache(maxsize=128)  # ids have at most 128 characters
def _end_and_inverse(length: int) -> tuple[int, int]:
    """Return the power of two for texts of this length in bytes, and the inverse of the factor modulo it."""
    end = 1 << 8 * length
    return end, pow(_FACTOR, -1, end)


def whole_minute(time: datetime) -> datetime:
    """Return a time rounded up to the minute.

    Denials are written with such times, so that every process holds the same time for one denial.
    """
    return _moment(_minute(time))


@lru_cache(maxsize=4096)  # at its start a process applies up to a million denials, with few distinct ends
def _minute(time: datetime) -> int:
    return math.ceil(time.timestamp() / _MINUTE)


def _moment(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * _MINUTE, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationKeys:
    """The values of one token that are looked up for each of its checks, computed once."""

    token: int
    """The number of the token's id in the denylist."""
    session: int | None
    """The number of its session's id; None = it has no session."""
    principals: frozenset[PrincipalId]
    """The principals whose generations it holds."""

    @classmethod
    def of(cls, token: AccessToken) -> Self:
        """Return the keys of this token."""
        session = None if token.session_id is None else number_of(token.session_id)
        return cls(token=number_of(token.token_id), session=session, principals=token.principals)


class Revocations(MergedGenerations):
    """The denylist and the generations of one process: the state that Verify checks a token against."""

    __slots__ = ("_ends", "denylist")

    def __init__(self) -> None:
        super().__init__()
        self.denylist = Denylist()
        self._ends: dict[SessionId, datetime] = {}

    @property
    def generations(self) -> Mapping[PrincipalId, Generation]:
        """Return the generation of every principal whose generation was ever raised."""
        return self._generations

    def facts(self) -> Iterator[Fact]:
        """Yield every fact that still counts, for repair of a log that has lost it."""
        for principal, generation in list(self._generations.items()):
            number, origin = generation.number, generation.link
            yield GenerationRaised(principal=principal, number=number, origin=origin)
        for id_, until in self.denylist.items():
            end = self._ends.get(SessionId(id_))
            if end is None:
                yield TokenDenied(token_id=TokenId(id_), deny_until=until)
            else:
                yield SessionEnded(session_id=SessionId(id_), deny_until=until, end_until=end)

    def evict(self, now: datetime) -> None:
        """Remove denials and ended sessions whose time is before `now`."""
        if self.denylist.evict(now):
            for session_id in [id_ for id_ in self._ends if id_ not in self.denylist]:
                del self._ends[session_id]

    def apply(self, change: Change, link: Link) -> None:
        """Apply one entry of the log. Idempotent, in any order."""
        match change:
            case TokenDenied():
                self.denylist.add(change.token_id, change.deny_until)
            case SessionEnded():
                end = self._ends.get(change.session_id, change.end_until)
                self._ends[change.session_id] = max(end, change.end_until)
                self.denylist.add(change.session_id, change.deny_until)
            case GenerationRaised():
                raised = Generation(number=change.number, link=change.origin or link)
                self.raise_to(change.principal, raised)
            case RecordChanged():
                pass

    def current(self, *principals: PrincipalId) -> dict[PrincipalId, Generation]:
        """Return the generations of these principals; a generation that was never raised is absent."""
        table = self._generations
        return {p: table[p] for p in principals if p in table} if table else {}

    def why_revoked(self, token: AccessToken, keys: RevocationKeys | None = None) -> str | None:
        """Return a sentence that names the revocation of the token, or None if it is not revoked.

        The token is checked by its id, its session, and each principal by name or by the token's `gen`.
        `keys` = those of the token, if the caller has them ready.
        """
        if keys is None:
            keys = RevocationKeys.of(token)
        denied = self.denylist.until
        if keys.token in denied:
            return "the token was revoked"
        if keys.session in denied:
            return "the token's session has ended"
        if self._generations:
            raised = first_raised(self._generations, keys.principals, token.generations)
            if raised is not None:
                return _RETIRED if is_key_principal(raised) else _RAISED
        return None


def first_raised(
    table: Mapping[PrincipalId, Generation],
    principals: frozenset[PrincipalId],
    held: Mapping[PrincipalId, Generation],
) -> PrincipalId | None:
    """Return the first of `principals` whose generation in `table` was raised over the one held, or None."""
    for principal in principals:
        generation = table.get(principal)
        if generation is not None and generation.is_raised_over(held.get(principal)):
            return principal
    return None


def is_ahead(table: Mapping[PrincipalId, Generation], held: Mapping[PrincipalId, Generation]) -> bool:
    """Return whether `held` names a generation that is higher than the one in `table`.

    Then the raise has not been read yet; or, if the log was read to its end, the raise belongs to a history
    that the store has lost, and no current generation says whether the token issued then is revoked.
    """
    for principal, generation in held.items():
        known = table.get(principal)
        if generation.number > (known.number if known is not None else 0):
            return True
    return False


def newest(
    first: Mapping[PrincipalId, Generation], second: Mapping[PrincipalId, Generation]
) -> dict[PrincipalId, Generation]:
    """Return the higher generation of each principal: a sign-in takes the maximum of store and replica."""
    merged = dict(first)
    for principal, generation in second.items():
        known = merged.get(principal)
        merged[principal] = generation if known is None else known.merged(generation)
    return merged
