"""Renews the tokens of one source: one renewal at a time, each in a thread of its own.

Callers never renew themselves, so that none waits longer than its own deadline, and no cancelled caller ends
the renewal for the others. A thread lives for one renewal; a source that nothing calls makes none.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from weakref import WeakSet

from identity_client.errors import IdentityError
from identity_client.token_state import Phase, TokenState
from identity_client.values import TokenSet
from identity_shared.token_ids import unverified_claims

_LOG: Final = logging.getLogger("identity_client.tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Obtained:
    """Tokens, and how long ago they were issued at most."""

    tokens: TokenSet
    age: float = 0.0
    """Seconds; 0 for tokens that the service has just issued."""
    requested: bool = True
    """False if another process has requested them."""
    renewable: bool = True
    """False if a renewal would bring no later end, so that it has to wait until the tokens have expired."""

    @property
    def lifetime(self) -> float:
        """The lifetime of the access token in seconds.

        It is `exp` less `iat`, by the clock of the service alone. For a token that cannot be read, it is
        reckoned by the clock of this machine.
        """
        try:
            claims = unverified_claims(self.tokens.access_token)
            return float(claims["exp"] - claims["iat"])
        except (ValueError, KeyError, TypeError):
            return (self.tokens.expire_time - datetime.now(UTC)).total_seconds() + self.age


@dataclass(frozen=True, slots=True)
class Ready:
    """There are tokens to use."""

    tokens: TokenSet


@dataclass(frozen=True, slots=True)
class Renewing:
    """A renewal is under way; the future ends with its tokens or its error, and must not be cancelled."""

    future: "Future[TokenSet]" = field(repr=False)


@dataclass(frozen=True, slots=True)
class Paused:
    """The last renewal has failed, and the next one may not begin yet."""

    seconds: float
    error: BaseException


class TokenRenewer:
    """The tokens of one source, renewed in the background. Any thread may call any method."""

    def __init__(
        self,
        obtain: Callable[[TokenSet | None], Obtained],
        *,
        audience: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without tokens.

        Args:
            obtain: returns new tokens; takes the present ones, None = there are none. It is called by one
                thread at a time, without any lock.
            audience: the service that the tokens are for, which the log names; empty = unknown.
            clock: a steady clock, in seconds.
        """
        self._obtain = obtain
        self._audience = audience
        self._clock = clock
        self._state = TokenState()
        self._reset_threads()
        _RENEWERS.add(self)

    def _reset_threads(self) -> None:
        """Set what threads share. In a child process, no thread releases what one of the parent held."""
        self._lock = threading.Lock()
        self._renewal: Future[TokenSet] | None = None

    def continue_in_child(self) -> None:
        """Continue in a child process with the access token, which both may use, but without a session.

        Two processes that used one refresh token would end up with two different successors of it.
        """
        self._reset_threads()
        self._state.forget_session()

    def look(self) -> Ready | Renewing | Paused:
        """Return what there is at the moment; begin a renewal if one is due."""
        with self._lock:
            now = self._clock()
            phase, tokens = self._state.phase(now), self._state.tokens
            if phase is Phase.FRESH and tokens is not None:
                return Ready(tokens)
            if self._renewal is None and not self._state.pause(now):
                self._begin()
            if phase is Phase.STALE and tokens is not None:
                return Ready(tokens)
            if self._renewal is not None:
                return Renewing(self._renewal)
            assert self._state.error is not None  # noqa: S101  # a pause follows an error
            return Paused(self._state.pause(now), self._state.error)

    def invalidate(self, token: str) -> bool:
        """See `TokenState.invalidate`."""
        with self._lock:
            return self._state.invalidate(token, self._clock())

    @property
    def tokens(self) -> TokenSet | None:
        """The latest tokens, whether they can still be used or not."""
        with self._lock:
            return self._state.tokens

    def forget(self) -> TokenSet | None:
        """Drop and return the tokens; a renewal that is under way is awaited, and its tokens are dropped."""
        with self._lock:
            renewal = self._renewal
        if renewal is not None:
            renewal.exception()
        with self._lock:
            tokens = self._state.tokens
            self._state.forget()
            return tokens

    def _begin(self) -> None:
        renewal: Future[TokenSet] = Future()
        thread = threading.Thread(target=self._run, args=(renewal,), name="identity-tokens", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the interpreter is shutting down
            self._state.fail(error, self._clock())
        else:
            self._renewal = renewal

    def _run(self, renewal: "Future[TokenSet]") -> None:
        """Renew once, or once more if the tokens were invalidated in between."""
        while True:
            with self._lock:
                sent, before, present = self._clock(), self._state.invalidations, self._state.tokens
            try:
                obtained = self._obtain(present)
            except BaseException as error:  # noqa: BLE001  # it is raised where a caller waits
                self._fail(renewal, error)
                return
            with self._lock:
                self._accept(obtained, sent)
                if self._state.invalidations == before:
                    self._renewal = None
                    break
                self._state.expire()  # tokens were refused meanwhile, perhaps for a fault that these have too
        renewal.set_result(obtained.tokens)

    def _accept(self, obtained: Obtained, sent: float) -> None:
        self._state.accept(
            obtained.tokens,
            issued=sent - obtained.age,
            lifetime=obtained.lifetime,
            requested=obtained.requested,
            renewable=obtained.renewable,
        )

    def _fail(self, renewal: "Future[TokenSet]", error: BaseException) -> None:
        with self._lock:
            now = self._clock()
            self._state.fail(error, now)
            remaining, pause = self._state.remaining(now), self._state.pause(now)
            self._renewal = None
        # Errors of the client contain no token or secret; the text of any other exception might.
        shown = error if isinstance(error, IdentityError | OSError) else type(error).__name__
        audience = f" for {self._audience}" if self._audience else ""
        left = f"It is valid for {remaining:.0f} s more" if remaining else "No token is valid meanwhile"
        _LOG.warning(
            "cannot renew the access token%s: %s. %s; the next attempt is in %.1f s",
            *(audience, shown, left, pause),
        )
        renewal.set_exception(error)


_RENEWERS: Final[WeakSet[TokenRenewer]] = WeakSet()
"""The renewers of this process; only for the hook of `os.fork`, a function without arguments."""


def _continue_in_child() -> None:
    for renewer in _RENEWERS:
        renewer.continue_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_continue_in_child)
