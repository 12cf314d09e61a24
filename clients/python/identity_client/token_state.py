"""The state of one source of tokens: what to do with the current token, decided without threads or clocks.

A token is FRESH until about three quarters of its life are over, then STALE: it is still used, while the next
one is requested. Once it has EXPIRED, or was invalidated, calls wait for the next one.
"""

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from identity_client.backoff import Backoff
from identity_client.values import TokenSet

EARLIEST: Final = 0.70
LATEST: Final = 0.80
"""The part of a token's life after which it is renewed. It is random, so that clients that started together
do not renew together."""
LONGEST_PAUSE: Final = 10.0
"""Seconds. The longest random pause after a failed renewal; the first is at most 0.1 s."""
INVALIDATIONS: Final = 3
INVALIDATION_INTERVAL: Final = 180.0
"""Seconds in which at most so many tokens are given up. A service that refuses every token, for example since
its clock is wrong, must not make its clients request one for each call; but after a leak, an administrator
may retire several keys within seconds, and each ends the tokens of its own."""


class Phase(Enum):
    """The phase in the life of the current token."""

    FRESH = auto()
    """Calls use the token."""
    STALE = auto()
    """Calls use the token, and it should be renewed."""
    EXPIRED = auto()
    """There is no token, or it is not used any more."""


class TokenState:
    """The current tokens, and when to renew them.

    All times are seconds of one steady clock that the caller passes in, such as `time.monotonic()`.
    """

    def __init__(self, *, uniform: Callable[[float, float], float] = random.uniform) -> None:
        """Begin without tokens. `uniform` returns a random number between its two arguments."""
        self._uniform = uniform
        self._backoff = Backoff(longest=timedelta(seconds=LONGEST_PAUSE), uniform=uniform)
        self.tokens: TokenSet | None = None
        """The latest tokens; those that are EXPIRED serve only to get the next ones."""
        self.error: BaseException | None = None
        """The error of the last renewal; None if it succeeded."""
        self.invalidations = 0
        """The count of calls of `invalidate` and `forget` that had an effect: tokens that were requested
        before one of them are void."""
        self._renew_at = self._expire_at = self._retry_at = -math.inf
        self._given_up: deque[float] = deque(maxlen=INVALIDATIONS)
        """The times of the last invalidations, the oldest first."""

    def phase(self, now: float) -> Phase:
        """Return the phase of the current tokens: whether a call may use them, and whether to renew them."""
        if now >= self._expire_at:
            return Phase.EXPIRED
        return Phase.STALE if now >= self._renew_at else Phase.FRESH

    def remaining(self, now: float) -> float:
        """Return the seconds for which the current token can still be used; 0 if it has expired."""
        return max(self._expire_at - now, 0.0)

    def pause(self, now: float) -> float:
        """Return the seconds until the next attempt to renew may begin; 0 if it may begin now."""
        return max(self._retry_at - now, 0.0)

    def accept(
        self,
        tokens: TokenSet,
        *,
        issued: float,
        lifetime: float,
        requested: bool = True,
        renewable: bool = True,
    ) -> None:
        """Make these the current tokens.

        Args:
            tokens: the tokens.
            issued: the time at which the access token was issued, or any time before that.
            lifetime: of the access token, in seconds.
            requested: whether this source has requested them; those that another process has requested may be
                invalidated at once.
            renewable: False = they are FRESH until they have expired.
        """
        self.tokens, self.error = tokens, None
        self._expire_at = issued + lifetime
        used_part = self._uniform(EARLIEST, LATEST) if renewable else 1.0
        self._renew_at = issued + lifetime * used_part
        self._retry_at = -math.inf
        self._backoff.reset()
        if not requested:
            self._given_up.clear()

    def fail(self, error: BaseException, now: float) -> None:
        """Note that a renewal has failed: the next one begins after a random pause."""
        self.error = error
        self._retry_at = now + self._backoff.next_pause(error)

    def invalidate(self, token: str, now: float) -> bool:
        """Stop using the token because a service refuses it; return whether there may be another one.

        A token that is not the current one changes nothing: the next is there, or under way. The current one
        is given up, but at most `INVALIDATIONS` of them in `INVALIDATION_INTERVAL`.
        """
        if self.tokens is None or self.tokens.access_token != token or now >= self._expire_at:
            return True
        if len(self._given_up) == INVALIDATIONS and now < self._given_up[0] + INVALIDATION_INTERVAL:
            return False
        self.invalidations += 1
        self._given_up.append(now)
        self.expire()
        return True

    def expire(self) -> None:
        """Stop using the current tokens; they serve only to get the next ones."""
        self._expire_at = self._renew_at = -math.inf

    def forget_session(self) -> None:
        """Keep the access token, and drop the refresh token."""
        if self.tokens is not None:
            self.tokens = replace(self.tokens, refresh_token="", refresh_expire_time=None)

    def forget(self) -> None:
        """Drop all tokens."""
        self.invalidations += 1
        self.tokens = None
        self.expire()
