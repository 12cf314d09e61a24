"""The open streaming calls of a server with threads; one background thread ends them."""

import logging
import threading
import time
from collections import deque
from typing import Final

from identity_client.freshness import wall
from identity_client.open_calls import LONGEST_WAIT, Note, OpenCall, OpenCalls, ignore
from identity_client.refusal import RefusedError
from identity_client.trust import Revocation
from identity_client.verifier_core import VerifierCore

_log: Final = logging.getLogger("identity_client.guard")
_GRACE: Final = 0.1
"""The time in which a handler that sends or receives a message learns why the call has ended, in seconds.
Afterwards the call is cancelled, since a thread that is blocked cannot be given a status."""


class ThreadedCalls(OpenCalls):
    """A set of open calls with a background thread, which starts with the first call."""

    def __init__(self, verifier: VerifierCore, note: Note = ignore, *, grace: float = _GRACE) -> None:
        """Create an empty set.

        Args:
            verifier: see `OpenCalls`.
            note: see `OpenCalls`.
            grace: the seconds between refusing the messages of a call and cancelling it.
        """
        super().__init__(verifier, note)
        self._grace = grace
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._revocations: list[Revocation] = []
        self._keys_changed = False
        self._look_at = float("inf")
        """The time of the next look at the expiry times, by the monotonic clock."""
        self._refused: deque[tuple[float, OpenCall]] = deque()
        """The refused calls, with the time at which they are cancelled by the monotonic clock."""

    def _added(self, valid_until: float) -> None:
        seconds = min(max(0.0, valid_until - wall()), LONGEST_WAIT)
        with self._changed:
            if self._thread is None:
                self._verifier.on_revoked(self._note_revocations)
                self._verifier.on_keys_changed(self._note_keys)
                self._thread = threading.Thread(target=self._run, name="identity-open-calls", daemon=True)
                self._thread.start()
            look_at = time.monotonic() + seconds
            if look_at < self._look_at:
                self._look_at = look_at
                self._changed.notify()

    def _note_revocations(self, revocations: tuple[Revocation, ...]) -> None:
        with self._changed:
            self._revocations += revocations
            self._changed.notify()

    def _note_keys(self) -> None:
        with self._changed:
            self._keys_changed = True
            self._changed.notify()

    def _end(self, call: OpenCall, refusal: RefusedError) -> None:
        call.refuse(refusal)
        self._refused.append((time.monotonic() + self._grace, call))

    def _run(self) -> None:
        while True:
            try:
                self._step()
            except Exception:  # noqa: BLE001  # without this thread, no call would be ended
                _log.exception("open calls could not be checked; they are checked again")
                self._keys_changed = True
                time.sleep(self._grace)

    def _step(self) -> None:
        """Wait until there is something to do, and do it."""
        with self._changed:
            due = min(self._look_at, self._refused[0][0] if self._refused else float("inf"))
            if not self._revocations and not self._keys_changed:
                self._changed.wait(min(due - time.monotonic(), threading.TIMEOUT_MAX))
            revocations, self._revocations = self._revocations, []
            keys_changed, self._keys_changed = self._keys_changed, False
            must_look = self._look_at <= time.monotonic()
            if must_look:
                self._look_at = float("inf")
        if revocations:
            self.apply(revocations)
        if keys_changed:
            self.check_all()
        if must_look:
            self._look_again(self.expire())
        while self._refused and self._refused[0][0] <= time.monotonic():
            _, call = self._refused.popleft()
            if not call.done:
                call.cancel()

    def _look_again(self, after: float | None) -> None:
        with self._changed:
            if after is not None:
                self._look_at = min(self._look_at, time.monotonic() + after)
