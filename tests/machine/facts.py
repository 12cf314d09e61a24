"""The issued tokens and the acknowledged revocations, and which party must reject which token.

A party must reject a token once it has received the revocation. The set `known` has these parties. A party is
removed from it only after a loss for which the service makes no promise. The module makes no calls.
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
"""A watcher, or a process: the name of its place and its number among those that ran there."""


class Kind(StrEnum):
    """The kind of target that a call of Revoke names."""

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
    """An access token, and its session if it has one."""

    text: str
    token_id: str
    key_id: str
    session_id: str
    refresh_token: str
    generations: Mapping[str, Generation | None]
    """The generations that the token names for its principals; None = not named, since it was never
    raised."""
    issue_time: float
    expire_time: float
    issued: int
    """The number of the step in which the token was issued."""
    facts: list["Fact"] = field(default_factory=list)
    doubtful: bool = False
    """True if a revocation of it failed, so that it is unknown whether the store has it."""

    def is_ahead_of(self, fact: "Fact") -> bool:
        """Return whether the token names a higher generation than the raised one.

        Such a token was issued in a lost history, in which that generation was raised more often.
        """
        known = self.generations.get(fact.id)
        return known is not None and known.number > fact.number > 0


@dataclass(kw_only=True, eq=False)
class Fact:
    """An acknowledged revocation."""

    kind: Kind
    id: str
    """The id of the token, the session or the principal."""
    number: int
    """The number of the raised generation; 0 for other facts."""
    known: set[Party]
    """The parties that must reject the tokens that it revokes."""
    logged: bool = True
    """True if the log has an entry for it, so that each process that reads the log learns of it."""
    lost: bool = False
    """True if neither the store nor a process has it any more."""
    ends_refresh: bool
    """True if Refresh must be refused as well."""

    def is_logged(self, held: Held) -> bool:
        """Return whether an entry of the log has this fact."""
        if self.number:
            return held.logged_generations.get(self.id, 0) >= self.number
        return self.id in held.logged

    def is_stored(self, held: Held) -> bool:
        """Return whether the log or the state has this fact."""
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
        """Return whether the store, or a process that will repair it, says that the session has ended."""
        return self.id in held.ended or any(SessionId(self.id) in memory._ends for memory in memories)
