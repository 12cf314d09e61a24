"""The model of the state machine: issued tokens, acknowledged revocations, and which party must refuse what.

A party must refuse the tokens whose revocation has reached it. `Fact.known` lists these parties; a party is
removed only by a loss that the service does not promise to survive. The module makes no calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from identity_service.domain.ids import PrincipalId, SessionId
from identity_service.domain.log import Generation
from identity_service.domain.revocations import Revocations
from tests.machine.stores import Held

Party = tuple[str, int]
"""A process, as its name and the number of its start, or a watcher, as its name and 0."""


class Kind(StrEnum):
    """The target of a revocation: a token, a session, a principal, a key, or everything."""

    TOKEN = "token"
    TOKEN_ID = "token id"
    SESSION = "session"
    REFRESH_TOKEN = "refresh token"
    SUBJECT = "subject"
    CLIENT = "client"
    EVERYTHING = "everything"
    KEY = "key"


OF_SESSIONS: Final = (Kind.SESSION, Kind.REFRESH_TOKEN)
OF_TOKENS: Final = (Kind.TOKEN, Kind.TOKEN_ID)


@dataclass(kw_only=True, eq=False)
class Token:
    """One access token, and the session that it belongs to, if any."""

    text: str
    token_id: str
    key_id: str
    session_id: str
    refresh_token: str
    generations: Mapping[str, Generation | None]
    """The generation that the token has for each of its principals; None if the principal was never
    raised."""
    issue_time: float
    expire_time: float
    issued: int
    """The step of the machine in which the token was issued."""
    facts: list["Fact"] = field(default_factory=list)
    doubtful: bool = False
    """True if it is unknown whether the token is still good, such as after a revocation that got an error."""

    def is_ahead_of(self, fact: "Fact") -> bool:
        """Return whether the token has a higher generation than the one that the fact raised.

        Such a token was issued in a lost history, in which the same principal had been raised more often.
        """
        known = self.generations.get(fact.id)
        return known is not None and known.number > fact.number > 0


@dataclass(kw_only=True, eq=False)
class Fact:
    """An acknowledged revocation, and the parties that must know it."""

    kind: Kind
    id: str
    """The id of the token, the session or the principal."""
    number: int
    """The number of the generation; 0 for other facts."""
    known: set[Party]
    """The parties that must refuse the tokens which this fact revokes."""
    logged: bool = True
    """True if the log has an entry of this fact, so that each process that reads the log learns of the
    fact."""
    lost: bool = False
    """True if neither the store nor a process has this fact any more."""
    ends_refresh: bool
    """True if Refresh must be refused for the session, besides Verify for its tokens."""

    def is_logged(self, held: Held) -> bool:
        """Return whether the log of the store has this fact."""
        if self.number:
            return held.logged_generations.get(self.id, 0) >= self.number
        return self.id in held.logged

    def is_stored(self, held: Held) -> bool:
        """Return whether the log or the state of the store has this fact."""
        if self.number:
            return self.is_logged(held) or held.generations.get(self.id, 0) >= self.number
        return self.is_logged(held) or self.id in held.kept

    def is_remembered(self, memory: Revocations) -> bool:
        """Return whether a process has this fact in memory."""
        if self.number:
            generation = memory.generations.get(PrincipalId(self.id))
            return generation is not None and generation.number >= self.number
        return self.id in memory.denylist

    def ends_still(self, held: Held, memories: list[Revocations]) -> bool:
        """Return whether the store, or a process that will repair it, knows that the session has ended."""
        return self.id in held.ended or any(SessionId(self.id) in memory._ends for memory in memories)
