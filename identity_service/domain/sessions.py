"""Refresh rotation: decides rotate, repeat, supersede or reuse. Owns no storage, no wire types.

The refresh tokens of a session are numbered and derived, so a session keeps no secret: the number
given out last (the latest), the number that was shown to get it (its parent), and when each number
was first rotated or voided, as long as that is within the grace window. RFC 9700 section 4.14.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.ids import EVERYONE, KeyId, PrincipalId, SessionId
from identity_service.domain.log import Generation
from identity_service.domain.tokens import TokenEncryption

NO_PARENT: Final = -1
MAX_ROTATIONS_IN_WINDOW: Final = 1000
"""Bounds the record: a session that rotates more often within one grace window has to wait."""
MAX_NUMBER: Final = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One sign-in and the chain of refresh tokens that comes from it."""

    session_id: SessionId
    subject: PrincipalId
    client_id: PrincipalId
    audiences: tuple[str, ...]
    scopes: tuple[str, ...]
    lifetime: timedelta
    """Of the access tokens, as chosen at sign-in."""
    claims: Mapping[str, object] = field(default_factory=dict)
    """The extra claims chosen at sign-in; every access token of the session carries them."""
    generations: Mapping[PrincipalId, Generation] = field(default_factory=dict)
    """Those of the sign-in, without the ones that were never raised."""
    auth_time: datetime
    expire_time: datetime
    """Absolute, counted from the sign-in."""
    device: str = ""
    peer: str = ""
    """Where the sign-in came from, as host:port."""
    may_act: PrincipalId | None = None
    """Who alone may act for the subject by exchanging tokens of the session; None = whoever may."""
    certificate_sha256: bytes | None = None
    """The certificate that its access tokens are bound to (RFC 8705); a refresh must show it again."""
    encryption: TokenEncryption = TokenEncryption.NONE
    """Of its access tokens, as chosen at sign-in."""
    key_id: KeyId
    """Of the refresh key that derives the latest token."""
    latest: int = 0
    parent: int = NO_PARENT
    refresh_time: datetime | None = None
    """When it was last rotated, by the store's clock."""
    rotate_times: Mapping[int, datetime] = field(default_factory=dict)
    """Number → when it was first rotated, voided or skipped, by the store's clock; within the window only."""

    @property
    def principals(self) -> frozenset[PrincipalId]:
        """Everybody whose generation can end this session: those it names, and those it began under."""
        return frozenset({EVERYONE, self.subject, self.client_id, *self.generations})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """The chain goes on: `session` replaces the record, and its latest token is the answer."""

    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The same successor again: a lost reply, a second tab, a second replica of the client."""

    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """Refused, harmless: a slow caller within the window of the token it shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reused:
    """Refused, and a sign that two parties hold tokens of this session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TooFrequent:
    """Refused for now: the record would outgrow its bound."""


RefreshDecision = Rotated | Replayed | Superseded | Reused | TooFrequent


def decide_refresh(
    session: Session, shown: int, *, now: datetime, grace: timedelta, key_id: KeyId
) -> RefreshDecision:
    """What showing the refresh token of number `shown` does.

    Args:
        session: the record as the store has it; it must not have ended or expired.
        shown: the number of a token whose MAC verified.
        now: the store's clock.
        grace: how long after its *first* rotation the parent gives the same successor again.
        key_id: the refresh key that derives the next token.
    """
    recent = {n: t for n, t in session.rotate_times.items() if now - t <= grace}
    if shown == session.latest:
        return _rotate(session, recent | {shown: now}, now, parent=shown, latest=shown + 1, key_id=key_id)
    if shown > session.latest:
        # The MAC is ours, so the number was given out: a failover of the store lost the rotation.
        skipped = range(max(session.latest, shown - MAX_ROTATIONS_IN_WINDOW), shown)
        times = recent | dict.fromkeys(skipped, now) | {shown: now}
        newest = dict(sorted(times.items())[-MAX_ROTATIONS_IN_WINDOW:])
        return _rotate(session, newest, now, parent=shown, latest=shown + 1, key_id=key_id)
    if shown == session.parent:
        if shown in recent:
            return Replayed(session=session)
        # The latest was never used, else it would be the parent: its reply was lost. It is void now.
        times = recent | {session.latest: now, shown: now}
        return _rotate(session, times, now, parent=shown, latest=session.latest + 1, key_id=key_id)
    return Superseded() if shown in recent else Reused()


def _rotate(
    session: Session, times: Mapping[int, datetime], now: datetime, *, parent: int, latest: int, key_id: KeyId
) -> Rotated | TooFrequent:
    if len(times) > MAX_ROTATIONS_IN_WINDOW or latest > MAX_NUMBER:
        return TooFrequent()
    return Rotated(
        session=replace(
            session,
            latest=latest,
            parent=parent,
            refresh_time=now,
            rotate_times=dict(times),
            key_id=key_id,
        )
    )
