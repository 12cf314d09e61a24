"""The state of the service that a local verifier follows, without a thread or an event loop.

A subclass receives the watch, in a thread or a task: it begins each stream with `_begin`, and passes each
message to `_apply` and each error to `_note`.
"""

import threading
from collections.abc import Callable
from datetime import timedelta

from identity_client.errors import IdentityError
from identity_client.events import Listeners
from identity_client.freshness import ClockSetBackError, ClockSkewedError, Freshness, LateError
from identity_client.trust import Revocation, WatchEvent
from identity_client.trust_state import TrustState


class NotFreshError(Exception):
    """No token can be verified, because the state from the service is incomplete or too old."""


def seconds_of(timeout: timedelta | float) -> float:
    """Return a time to wait in seconds."""
    return timeout.total_seconds() if isinstance(timeout, timedelta) else timeout


class TrustFollower:
    """The keys and revocations of the service, the time until which they are trusted, and their listeners."""

    def __init__(self, *, max_staleness: timedelta, leeway: timedelta) -> None:
        """Begin without any state; the arguments are those of `LocalVerifier`."""
        self._fresh = Freshness(max_staleness=max_staleness, leeway=leeway)
        self._state = TrustState()
        self._trouble: Exception | None = None
        """The error that ended the last stream, or kept a heartbeat from counting."""
        self._skewed = False
        """True if a heartbeat came from a service whose clock differs by more than the leeway."""
        self._lock = threading.Lock()
        """Held while freshness is confirmed or ended."""
        self._closed = False
        self._revoked: Listeners[[tuple[Revocation, ...]]] = Listeners()
        self._keys_changed: Listeners[[]] = Listeners()
        self._fresh_changed: Listeners[[bool]] = Listeners()
        self._was_fresh = False

    def on_revoked(self, listener: Callable[[tuple[Revocation, ...]], None]) -> Callable[[], None]:
        """Have a function called after revocations have taken effect here; return a function that removes it.

        It is called by the thread or task that follows the service, so it must not block. It receives all
        revocations of one message; in a snapshot also those that came before. What it raises is logged.
        """
        return self._revoked.add(listener)

    def on_keys_changed(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have a function called after the published keys were replaced; return a function that removes it.

        It is called as the function of `on_revoked` is.
        """
        return self._keys_changed.add(listener)

    def on_state(self, listener: Callable[[bool], object]) -> Callable[[], None]:
        """Have a function called when tokens can be verified again, or no more; return one that removes it.

        It is called with True or False, as the function of `on_revoked` is. That tokens can be verified no
        more is noticed late, by at most half of `max_staleness`.
        """
        return self._fresh_changed.add(listener)

    def _is_fresh(self, extra: timedelta = timedelta(0)) -> bool:
        # The state stays fresh while a stream is resumed, but not after the service has announced a snapshot:
        # some of the state may belong to another history, which was lost.
        until = self._fresh.until + extra.total_seconds()
        return self._fresh.steady() <= until and self._state.complete and self._fresh.is_steady()

    def _require_fresh(self, extra: timedelta = timedelta(0)) -> None:
        if self._is_fresh(extra):
            return
        why = f": {self._trouble}" if self._trouble is not None else ""
        if not self._state.complete:
            raise NotFreshError(f"the revocations are not completely known yet{why}")
        if self._fresh.steady() <= self._fresh.until:
            raise NotFreshError("the clock of this machine was set and is being checked; try again")
        raise NotFreshError(f"no recent heartbeat of the service has arrived{why}")

    def _begin(self) -> str:
        """Prepare for a new stream of the watch; return the revision after which it resumes."""
        if self._skewed:
            # A service whose clock is ahead omits denials that have ended by its clock. A client that
            # resumed would never receive them, even when the clocks agree again.
            self._state.start_over()
            self._skewed = False
        self._fresh.begin()
        self._tell_state()
        return self._state.revision

    def _note(self, error: Exception) -> Exception | None:
        """Note why a stream has ended; return the failure that the next attempt waits for, or None."""
        self._trouble = error
        if isinstance(error, ClockSetBackError):
            self._state.start_over()
            return None
        if not isinstance(error, IdentityError | LateError):  # a newer service or a bug
            self._fresh.end()  # the state is incomplete: an ignored message could have been a revocation
        self._tell_state()
        return error

    def _end(self) -> None:
        """Verify no token from now on."""
        with self._lock:
            self._closed = True
            self._fresh.end()
        self._tell_state()

    def _tell_state(self) -> None:
        """Call the functions of `on_state` if the state has changed."""
        is_fresh = self._is_fresh()
        if is_fresh != self._was_fresh:
            self._was_fresh = is_fresh
            self._fresh_changed.call(is_fresh)

    def _confirmed(self) -> None:
        """Do what the subclass does after each confirmed heartbeat; the caller holds the lock."""

    def _apply(self, event: WatchEvent) -> None:
        """Fold an event into the state; a heartbeat then moves the time until which the state is trusted."""
        self._fold(event)
        self._tell_state()

    def _fold(self, event: WatchEvent) -> None:
        if event.restarted:
            self._fresh.start_over()
        self._state.fold(event)
        if event.revocations:
            self._revoked.call(event.revocations)
        if event.keys is not None:
            self._keys_changed.call()
        if event.time is None or event.staleness is None or not self._state.complete:
            return
        if not self._state.keys:
            raise ValueError(
                "the service publishes no key that this client knows; with HS256 only the service can verify"
            )
        with self._lock:
            if self._closed:
                return
            try:
                self._fresh.confirm(event.time, event.staleness)
            except ClockSkewedError as error:
                self._trouble, self._skewed = error, True
                return
            self._trouble = None
            self._confirmed()
        self._state.evict(self._fresh.forgettable())
