"""The contract as a model in memory: what Verify and Refresh must say (semantics 2, 3 and 5).

Knows no service, no store and no token text; `test_state_machine.py` holds the real thing against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

EVERYTHING: Final = "*"
LEEWAY: Final = timedelta(seconds=10)
GRACE: Final = timedelta(seconds=60)


@dataclass(kw_only=True, eq=False)
class Session:
    """One sign-in and its chain of refresh tokens, by their numbers."""

    subject: str
    client: str
    generations: Mapping[str, int]
    expire_time: datetime
    latest: int = 0
    parent: int | None = None
    shown: dict[int, datetime] = field(default_factory=dict)
    """When each was first shown, or became void."""
    ended: bool = False


@dataclass(kw_only=True, eq=False)
class Token:
    """One access token."""

    subject: str
    client: str
    session: Session | None
    generations: Mapping[str, int]
    expire_time: datetime
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """Refresh succeeds, and the session's next token has this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Refresh fails; `reason` where the contract names one."""

    reason: str = ""


class Model:
    """What has been issued and taken back."""

    def __init__(self) -> None:
        self.generations: dict[str, int] = {}

    def current(self, *principals: str) -> dict[str, int]:
        return {p: self.generations.get(p, 0) for p in (EVERYTHING, *principals)}

    def raise_generation(self, principal: str) -> None:
        self.generations[principal] = self.generations.get(principal, 0) + 1

    def verify(self, token: Token, now: datetime) -> str:
        """Why it is rejected, or "" when it is good."""
        if now >= token.expire_time + LEEWAY:
            return "EXPIRED"
        ended = token.session is not None and token.session.ended
        if token.denied or ended or self._is_raised(token.generations):
            return "REVOKED"
        return ""

    def refresh(self, session: Session, number: int, now: datetime) -> Given | Refused:
        """What showing the refresh token of this number does."""
        if self.is_over(session, now):
            return Refused()
        within = number in session.shown and now - session.shown[number] <= GRACE
        if number == session.latest:
            session.shown[number] = now
        elif number == session.parent:
            if within:
                return Given(session.latest)
            session.shown[session.latest] = session.shown[number] = now
        elif within:
            return Refused("REFRESH_TOKEN_SUPERSEDED")
        else:
            session.ended = True
            return Refused()
        session.parent, session.latest = number, session.latest + 1
        return Given(session.latest)

    def is_over(self, session: Session, now: datetime) -> bool:
        return session.ended or now >= session.expire_time or self._is_raised(session.generations)

    def _is_raised(self, held: Mapping[str, int]) -> bool:
        return any(self.generations.get(principal, 0) > number for principal, number in held.items())
