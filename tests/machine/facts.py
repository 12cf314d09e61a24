"""The issued tokens and the acknowledged revocations, and which party must refuse which token.

A party must refuse the tokens whose revocation it got; `known` has these parties, and only a loss that no
promise covers removes one. The module makes no calls.
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
"""The name of a process and which one it is of those that ran there; or a watcher."""


class Kind(StrEnum):
    """The target by which Revoke is called."""

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
    """The generations of its principals, as it names them; None = it names none, and the principal was never
    raised."""
    issue_time: float
    expire_time: float
    issued: int
    """The step in which it was issued."""
    facts: list["Fact"] = field(default_factory=list)
    doubtful: bool = False
    """A revocation of it was refused: it is unknown whether the store has it."""

    def is_ahead_of(self, fact: "Fact") -> bool:
        """Return whether it names a higher generation than the one that was raised to.

        Then it was issued in a history that was lost, in which that generation was raised more often.
        """
        known = self.generations.get(fact.id)
        return known is not None and known.number > fact.number > 0


@dataclass(kw_only=True, eq=False)
class Fact:
    """One acknowledged revocation."""

    kind: Kind
    id: str
    """The id of the token, the session or the principal."""
    number: int
    """The number of the generation; 0 for other facts."""
    known: set[Party]
    """The parties that must refuse the tokens that it revokes."""
    logged: bool = True
    """True if the log has its entry, so that each process that reads it learns of it."""
    lost: bool = False
    """Neither the store nor a process holds it any more."""
    ends_refresh: bool
    """True if Refresh must be refused, too."""

    def is_logged(self, held: Held) -> bool:
        """Return whether an entry of the log says so."""
        if self.number:
            return held.logged_generations.get(self.id, 0) >= self.number
        return self.id in held.logged

    def is_stored(self, held: Held) -> bool:
        """Return whether log or state say so."""
        if self.number:
            return self.is_logged(held) or held.generations.get(self.id, 0) >= self.number
        return self.is_logged(held) or self.id in held.kept

    def is_remembered(self, memory: Revocations) -> bool:
        """Return whether a process has it in memory."""
        if self.number:
            generation = memory.generations.get(PrincipalId(self.id))
            return generation is not None and generation.number >= self.number
        return self.id in memory.denylist

    def ends_still(self, held: Held, memories: list[Revocations]) -> bool:
        """Return whether the store, or a process that will repair it, says that the session has ended."""
        return self.id in held.ended or any(SessionId(self.id) in memory._ends for memory in memories)
