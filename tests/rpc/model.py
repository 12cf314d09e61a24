"""A model of the service in memory: it says which answers Verify and Refresh must give.

The model does not use the service, the store or real tokens; `sides.py` compares the service with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

EVERYTHING: Final = "*"
LIFETIME: Final = timedelta(minutes=15)
SESSION: Final = timedelta(days=30)
LEEWAY: Final = timedelta(seconds=10)
GRACE: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The state of the refresh tokens of a session; each token is identified by its number."""

    latest: int = 0
    parent: int | None = None
    rotated: Mapping[int, datetime] = field(default_factory=dict)
    """The time at which the token of each number was first rotated, skipped or made void."""


@dataclass(kw_only=True, eq=False)
class Session:
    """One session: the result of a sign-in."""

    generations: Mapping[str, int]
    expire_time: datetime
    survives_reuse: bool = False
    """True if reuse of a refresh token does not end the session. In production that requires a client that
    authenticates itself, and its setting `on_reuse`."""
    chain: Chain = field(default_factory=Chain)
    ended: bool = False


@dataclass(kw_only=True, eq=False)
class Token:
    """One access token."""

    session: Session | None
    generations: Mapping[str, int]
    expire_time: datetime
    denied: bool = False


class Event(StrEnum):
    """The outcome of presenting a refresh token."""

    ROTATED = "rotated"
    REPLAYED = "replayed"
    REPLACED = "replaced"
    """The token is the parent, its grace window is over, and its unused successor is made void."""
    MOVED_FORWARD = "moved forward"
    SUPERSEDED = "superseded"
    REUSED = "reused"
    SPARED = "refused on reuse"
    """The token was reused and is refused, but the session goes on."""
    EXPIRED = "session expired"
    ENDED = "session ended"


@dataclass(frozen=True, slots=True)
class Given:
    """Refresh succeeds and returns the refresh token with this number."""

    event: Event
    number: int

    @property
    def writes(self) -> bool:
        return self.event is not Event.REPLAYED


@dataclass(frozen=True, slots=True)
class Refused:
    """Refresh fails. The event is None if the service could not reach the store to look up the session."""

    reason: str
    event: Event | None = None

    @property
    def writes(self) -> bool:
        return self.event is Event.REUSED


class Model:
    """The raised generations. Its methods change and read tokens and sessions as the contract demands."""

    def __init__(self) -> None:
        self.generations: dict[str, int] = {}

    def sign_in(self, now: datetime, *principals: str, survives_reuse: bool = False) -> Session:
        return Session(
            generations=self._current(*principals), expire_time=now + SESSION, survives_reuse=survives_reuse
        )

    def issue(self, now: datetime, *principals: str) -> Token:
        """Return a new access token of a client, which belongs to no session."""
        return Token(session=None, generations=self._current(*principals), expire_time=now + LIFETIME)

    def issue_in(self, session: Session, now: datetime) -> Token:
        return Token(
            session=session,
            generations=session.generations,
            expire_time=min(now + LIFETIME, session.expire_time),
        )

    def raise_generation(self, principal: str) -> None:
        self.generations[principal] = self.generations.get(principal, 0) + 1

    def verify(self, token: Token, now: datetime) -> str:
        """Return the reason why Verify must reject the token, or "" if it is valid."""
        if now >= token.expire_time + LEEWAY:
            return "EXPIRED"
        ended = token.session is not None and token.session.ended
        return "REVOKED" if token.denied or ended or self._is_raised(token.generations) else ""

    def refresh(self, session: Session, number: int, now: datetime) -> Given | Refused:
        """Return the outcome of presenting the refresh token with this number, and update the session."""
        if self.is_over(session, now):
            alive = not session.ended and not self._is_raised(session.generations)
            return Refused("SESSION_ENDED", Event.EXPIRED if alive else Event.ENDED)
        chain = session.chain
        within = number in chain.rotated and now - chain.rotated[number] <= GRACE
        if number >= chain.latest:
            # The number is too high if the store lost rotations. Skipped numbers count as rotated now.
            moved = range(chain.latest, number + 1)
            session.chain = Chain(
                latest=number + 1, parent=number, rotated={**chain.rotated, **dict.fromkeys(moved, now)}
            )
            event = Event.ROTATED if number == chain.latest else Event.MOVED_FORWARD
        elif number == chain.parent and within:
            event = Event.REPLAYED
        elif number == chain.parent:
            void = {chain.latest: now, number: now}
            session.chain = Chain(latest=chain.latest + 1, parent=number, rotated={**chain.rotated, **void})
            event = Event.REPLACED
        elif within:
            return Refused("REFRESH_TOKEN_SUPERSEDED", Event.SUPERSEDED)
        else:
            session.ended = not session.survives_reuse
            return Refused("REFRESH_TOKEN_REUSED", Event.REUSED if session.ended else Event.SPARED)
        return Given(event, session.chain.latest)

    def is_over(self, session: Session, now: datetime) -> bool:
        return session.ended or now >= session.expire_time or self._is_raised(session.generations)

    def _current(self, *principals: str) -> dict[str, int]:
        return {p: self.generations.get(p, 0) for p in (EVERYTHING, *principals)}

    def _is_raised(self, held: Mapping[str, int]) -> bool:
        return any(self.generations.get(principal, 0) > number for principal, number in held.items())
