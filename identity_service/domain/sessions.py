"""Refresh rotation: sessions, and the decision on each refresh (RFC 9700 section 4.14.2).

The module contains no storage and no transport types. The refresh tokens of a session are numbered and
derived, so a session stores no secret, only the number issued last (`latest`), the number that was presented
to get it (`parent`), and when each number was first rotated or voided, as long as that is within the grace
window.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.ids import EVERYONE, KeyId, PrincipalId, SessionId
from identity_service.domain.log import Generation
from identity_service.domain.principals import Client, User
from identity_service.domain.tokens import TokenEncryption

NO_PARENT: Final = -1
MAX_ROTATIONS_IN_WINDOW: Final = 1000
"""The most rotations within one grace window, which bounds the record; further ones are refused for now."""
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
    """The lifetime of its access tokens, as chosen at sign-in."""
    claims: Mapping[str, object] = field(default_factory=dict)
    """The extra claims chosen at sign-in; every access token of the session carries them."""
    generations: Mapping[PrincipalId, Generation] = field(default_factory=dict)
    """The generations at sign-in; a generation that was never raised is absent."""
    auth_time: datetime
    expire_time: datetime
    """The absolute end of the session, counted from the sign-in."""
    device: str = ""
    peer: str = ""
    """The address that the sign-in came from, as host:port."""
    may_act: PrincipalId | None = None
    """The only principal that may act for the subject by exchanging tokens of the session; None = no
    limit."""
    certificate_sha256: bytes | None = None
    """The SHA-256 of the certificate that its access tokens are bound to (RFC 8705); a refresh must present
    it too."""
    key_sha256: bytes | None = None
    """The SHA-256 thumbprint of the key by which each refresh needs a DPoP proof (RFC 9449 section 5).

    It is that of the sign-in, if it was through a public client and had a proof; None = none.
    """
    encryption: TokenEncryption = TokenEncryption.NONE
    """The encryption of its access tokens, as chosen at sign-in."""
    key_id: KeyId
    """The id of the refresh key that derives the latest token."""
    latest: int = 0
    parent: int = NO_PARENT
    refresh_time: datetime | None = None
    """The time at which the session was last rotated, by the store's clock."""
    rotate_times: Mapping[int, datetime] = field(default_factory=dict)
    """A map from the number of a token to the time at which that token was first rotated, voided or skipped,
    by the store's clock. Numbers whose grace window is over are removed."""

    @property
    def principals(self) -> frozenset[PrincipalId]:
        """Return the principals whose generation can end this session: named in it, or in its generations."""
        return frozenset({EVERYONE, self.subject, self.client_id, *self.generations})


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """The data for a sign-in with a username, read in one atomic step."""

    generations: Mapping[PrincipalId, Generation]
    """The generations of `*`, the user and the client; a generation that was never raised is absent."""
    user: User | None
    client: Client | None
    time: datetime
    """The time by the store's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """A session and everything that may forbid its refresh, read in one atomic step."""

    session: Session
    version: int
    """The version of the record; it grows with every change."""
    ended: bool
    """True if the session has ended, by a SessionEnded fact or by the mark on its record."""
    generations: Mapping[PrincipalId, Generation]
    """The generations of `*`, the subject and the client; a generation that was never raised is absent."""
    user: User | None
    client: Client | None
    time: datetime
    """The time by the store's clock; grace windows and the end of the session are measured by it."""
    rotated: bool = False
    """True if the store has made the rotation that was asked for with the read, right after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainRotation:
    """A rotation that a store may make in the step in which it reads the session, to save a round trip.

    The store makes it only if `decide_refresh` would rotate because `shown` is the latest number, and if the
    session is live, has the generations of its principals as they are now, is of this client, is bound to no
    certificate and no key, and has tokens that are not encrypted. In all other cases it leaves the session as
    it is, and the caller decides. It may always leave the session as it is.
    """

    shown: int
    """The number of the token that was shown, whose MAC verified."""
    client_id: PrincipalId
    """The client that shows the token: authenticated or public, and allowed to refresh."""
    key_id: KeyId
    """The id of the refresh key that derives the next token."""
    grace: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """The refresh succeeds: `session` replaces the record, and its latest token is returned to the client."""

    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The refresh returns the same successor again.

    That happens after a lost reply, or for a second tab or instance of the client.
    """

    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """The refresh is refused, but is harmless: a slow caller used a token within the token's grace window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reused:
    """The refresh is refused, and indicates that two parties hold tokens of this session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TooFrequent:
    """The refresh is refused for now: the record would exceed its bound."""


RefreshDecision = Rotated | Replayed | Superseded | Reused | TooFrequent


def decide_refresh(
    session: Session, shown: int, *, now: datetime, grace: timedelta, key_id: KeyId
) -> RefreshDecision:
    """Decide what a refresh with the token of number `shown` does.

    Args:
        session: the record as the store holds it; it must not have ended or expired.
        shown: the number of a token whose MAC verified.
        now: the time by the store's clock.
        grace: how long after its *first* rotation the parent returns the same successor again.
        key_id: the refresh key that derives the next token.
    """
    recent = {n: t for n, t in session.rotate_times.items() if now - t <= grace}
    if shown == session.latest:
        return _rotate(session, recent | {shown: now}, now, parent=shown, latest=shown + 1, key_id=key_id)
    if shown > session.latest:
        # The MAC is ours, so the number was issued: a failover of the store has lost the rotation.
        skipped = range(max(session.latest, shown - MAX_ROTATIONS_IN_WINDOW), shown)
        times = recent | dict.fromkeys(skipped, now) | {shown: now}
        newest = dict(sorted(times.items())[-MAX_ROTATIONS_IN_WINDOW:])
        return _rotate(session, newest, now, parent=shown, latest=shown + 1, key_id=key_id)
    if shown == session.parent:
        if shown in recent:
            return Replayed(session=session)
        # The latest token was never used, otherwise it would be the parent: its reply was lost. It is void
        # now.
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
            session, latest=latest, parent=parent, refresh_time=now, rotate_times=dict(times), key_id=key_id
        )
    )
