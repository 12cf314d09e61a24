"""What has been revoked, as one process knows it: the fold of the change log.

Owns the denylist and the generations in memory. Facts only grow: a denial may be extended, never
shortened, a generation raised, never lowered, so entries may be folded twice and in any order.
Threads that verify read it without a lock, since every change is one assignment; whoever writes
sees to it that only one thread does at a time.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Final

from identity_service.domain.ids import Link, PrincipalId, SessionId, TokenId, is_key_principal
from identity_service.domain.log import (
    NEVER_RAISED,
    Change,
    Fact,
    Generation,
    GenerationRaised,
    RecordChanged,
    SessionEnded,
    TokenDenied,
)
from identity_service.domain.tokens import AccessToken

_BUCKET_SECONDS: Final = 60
_PACKED: Final = 256
_RAISED: Final = "all tokens of one of the token's principals were revoked"
_RETIRED: Final = "a key that the token was made with was retired"


class _Bucket:
    """The ids whose denial ends at one minute.

    They are packed into tuples as they come: a full collection of garbage looks at every id in a list,
    a million of them for 35 ms in which nothing is answered, but at none in a tuple of texts.
    """

    __slots__ = ("_latest", "_packed", "minute")

    def __init__(self, minute: int) -> None:
        self.minute = minute
        self._packed: list[tuple[str, ...]] = []
        self._latest: list[str] = []

    def add(self, id_: str) -> None:
        self._latest.append(id_)
        if len(self._latest) == _PACKED:
            self._packed.append(tuple(self._latest))
            self._latest.clear()

    def __iter__(self) -> Iterator[str]:
        return chain(chain.from_iterable(self._packed), self._latest)


class Denylist:
    """A flat map id → deny-until of token ids and session ids, with buckets that serve only eviction.

    Times are rounded up to the minute: a denial may last longer than asked, and a million of them
    share the few numbers that their buckets hold.
    """

    __slots__ = ("_buckets", "until")

    def __init__(self) -> None:
        self.until: dict[str, int] = {}
        """Id → minute. For reading: Verify looks here without a call."""
        self._buckets: dict[int, _Bucket] = {}

    def __contains__(self, id_: str | None) -> bool:
        return id_ in self.until

    def __len__(self) -> int:
        return len(self.until)

    def items(self) -> Iterator[tuple[str, datetime]]:
        """All denials of this moment, with their ends; others may come and go meanwhile."""
        for id_ in list(self.until):  # one step of the interpreter, so that no lock is needed
            minute = self.until.get(id_)
            if minute is not None:
                yield id_, _moment(minute)

    def add(self, id_: str, deny_until: datetime) -> None:
        minute = _minute(deny_until)
        if minute > self.until.get(id_, -1):
            bucket = self._buckets.get(minute)
            if bucket is None:
                bucket = self._buckets[minute] = _Bucket(minute)
            self.until[id_] = bucket.minute
            bucket.add(id_)

    def evict(self, now: datetime) -> int:
        """Forget the denials that ended before `now`; returns how many."""
        current = math.floor(now.timestamp() / _BUCKET_SECONDS)
        forgotten = 0
        for minute in [m for m in self._buckets if m < current]:
            for id_ in self._buckets.pop(minute):
                if self.until.get(id_) == minute:  # else it was extended and lies in a later bucket
                    del self.until[id_]
                    forgotten += 1
        return forgotten


def whole_minute(time: datetime) -> datetime:
    """The end of the minute: how denials are written, so that all who keep one mean the same time."""
    return _moment(_minute(time))


@lru_cache(maxsize=4096)  # a start folds a million denials, which end at a few hundred minutes
def _minute(time: datetime) -> int:
    return math.ceil(time.timestamp() / _BUCKET_SECONDS)


def _moment(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * _BUCKET_SECONDS, UTC)


class Revocations:
    """The denylist and the generations together: what Verify asks about a token."""

    __slots__ = ("_ends", "_generations", "_overtaken", "_unproven", "denylist")

    def __init__(self) -> None:
        self.denylist = Denylist()
        self._ends: dict[SessionId, datetime] = {}
        self._generations: dict[PrincipalId, Generation] = {}
        self._unproven: dict[PrincipalId, Generation] = {}
        """Generations that were known before the log was replaced and that the new history has not shown."""
        self._overtaken: dict[tuple[PrincipalId, int], Generation] = {}
        """Those that were lower than the store's, by their numbers: the new history may not have had them."""

    @property
    def generations(self) -> Mapping[PrincipalId, Generation]:
        """Every principal that was ever raised."""
        return self._generations

    def facts(self) -> Iterator[Fact]:
        """Everything that is known and still counts, to be put back where a log has lost it."""
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
        """Forget what ended before `now`."""
        if self.denylist.evict(now):
            for session_id in [id_ for id_ in self._ends if id_ not in self.denylist]:
                del self._ends[session_id]

    def begin_history(
        self,
        generations: Mapping[PrincipalId, Generation],
        known_before: Mapping[PrincipalId, Generation] | None = None,
    ) -> None:
        """Hold these generations of a store whose log was replaced, or is read for the first time.

        A generation that is higher here was raised in another history. If the store has raised the
        principal as well, that may have revoked what was issued under the higher one: a number is kept that
        refuses both, until the log shows that the higher one stands in it, or a raise above both.

        One that is lower here may be of another history as well, as after the store was replaced twice. The
        log shows that by another raise to the same number: then the store's number does not stand for it.

        Args:
            generations: of the store.
            known_before: what was known here when they were asked for; None = what is known now. What this
                process has raised since is of this history, and only not in the answer.
        """
        remembered = self._generations if known_before is None else known_before
        self._unproven = {
            principal: known
            for principal, known in remembered.items()
            if known == self._generations[principal]
            and known.number > generations.get(principal, NEVER_RAISED).number
        }
        self._overtaken |= {
            (principal, known.number): known
            for principal, known in remembered.items()
            if known.number < generations.get(principal, NEVER_RAISED).number
        }
        for principal, generation in generations.items():
            self.raise_to(principal, generation)

    def history_is_read(self) -> None:
        """Compare no more with what was lower here: the log was read to its end, and numbers only grow."""
        self._overtaken.clear()

    def apply(self, change: Change, link: Link) -> None:
        """Fold one entry of the log. Idempotent, in any order."""
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

    def raise_to(self, principal: PrincipalId, generation: Generation) -> None:
        """Hold at least this generation from now on. Idempotent, in any order."""
        known = self._generations.get(principal)
        unproven = self._unproven.get(principal)
        if known is None:
            merged = generation
        elif unproven is None:
            merged = known.merged(generation)
        elif generation == unproven:
            merged = generation
            del self._unproven[principal]
        elif generation.number < unproven.number:
            merged = unproven.refusing(generation)
        else:
            merged = known.merged(generation)
            del self._unproven[principal]
        overtaken = self._overtaken.pop((principal, generation.number), generation)
        if overtaken != generation:
            merged = merged.refusing(overtaken)
        self._generations[principal] = merged

    def current(self, *principals: PrincipalId) -> dict[PrincipalId, Generation]:
        """The generations of these principals, without the ones that were never raised."""
        table = self._generations
        return {p: table[p] for p in principals if p in table} if table else {}

    def why_revoked(self, token: AccessToken, principals: frozenset[PrincipalId] | None = None) -> str | None:
        """A sentence that says which level revoked the token, or None while none did.

        Every level counts: id, session, and each principal by name or by the token's `gen`.
        `principals` = of the token, where the caller has them ready.
        """
        denied = self.denylist.until
        if token.token_id in denied:
            return "the token was revoked"
        if token.session_id in denied:
            return "the token's session has ended"
        if self._generations:
            named = token.principals if principals is None else principals
            raised = first_raised(self._generations, named, token.generations)
            if raised is not None:
                return _RETIRED if is_key_principal(raised) else _RAISED
        return None

    def is_ahead(self, held: Mapping[PrincipalId, Generation]) -> bool:
        """Whether a token or session names a higher generation than is known here: see `is_ahead`."""
        return is_ahead(self._generations, held)

    def raised_over(
        self, principals: frozenset[PrincipalId], held: Mapping[PrincipalId, Generation]
    ) -> PrincipalId | None:
        """The first of `principals` whose generation was raised over the one held, if any."""
        return first_raised(self._generations, principals, held)


def first_raised(
    table: Mapping[PrincipalId, Generation],
    principals: frozenset[PrincipalId],
    held: Mapping[PrincipalId, Generation],
) -> PrincipalId | None:
    """The first of `principals` whose generation in `table` was raised over the one held, if any."""
    for principal in principals:
        generation = table.get(principal)
        if generation is not None and generation.is_raised_over(held.get(principal)):
            return principal
    return None


def is_ahead(table: Mapping[PrincipalId, Generation], held: Mapping[PrincipalId, Generation]) -> bool:
    """Whether `held` names a generation that is higher than the one in `table`.

    Then the raise has not been read yet; or, if the log was read to its end, it belongs to a history of the
    store that was lost, and no raise of today says whether it revokes what was issued then.
    """
    for principal, generation in held.items():
        known = table.get(principal)
        if generation.number > (known.number if known is not None else 0):
            return True
    return False


def newest(
    first: Mapping[PrincipalId, Generation], second: Mapping[PrincipalId, Generation]
) -> dict[PrincipalId, Generation]:
    """The higher generation of each principal in either: a sign-in takes max(store, replica)."""
    merged = dict(first)
    for principal, generation in second.items():
        known = merged.get(principal)
        merged[principal] = generation if known is None else known.merged(generation)
    return merged
