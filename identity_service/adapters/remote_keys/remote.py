"""The keys of one issuer behind a URL, fetched by a background thread.

There is one thread per issuer, so that two requests to an issuer never run at once. A slow or unreachable
issuer delays only callers that need its keys, and only a bounded number of them. The module knows neither
HTTP nor the format of keys.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from identity_service.adapters.remote_keys.documents import Fetch, FetchError, KeyDocument
from identity_service.domain.errors import IssuerUnreachableError
from identity_service.domain.ports import Clock, EventLog, VerifyingKey
from identity_service.jose.jwks import KeySet
from identity_service.process.thread_limit import REFUSED

_MAX_BACKOFF: Final = 300.0
"""The longest backoff after failed attempts, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPolicy:
    """The times that govern how often an issuer is asked for its keys, and how long they are used."""

    floor: timedelta = timedelta(seconds=10)
    """The shortest time between two requests: tokens with invented key ids must not cause a request each."""
    age: timedelta = timedelta(minutes=15)
    """The lifetime of keys if the response gives none (Cache-Control); then they are fetched again."""
    least_age: timedelta = timedelta(minutes=5)
    """The shortest lifetime that is accepted from a response."""
    most_age: timedelta = timedelta(hours=24)
    """The longest lifetime that is accepted from a response."""
    kept: timedelta = timedelta(hours=24)
    """The time for which the last valid keys are used beyond their lifetime while newer ones cannot be
    fetched."""
    patience: timedelta = timedelta(seconds=5)
    """The longest time that a caller waits for a request in progress."""

    def age_of(self, document: KeyDocument) -> float:
        """Return the lifetime of a document in seconds, after which it is fetched again."""
        asked = self.age if document.max_age is None else document.max_age
        return min(max(asked, self.least_age), self.most_age).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A bound on the number of waiting callers, for all issuers together and for one issuer."""

    total: threading.BoundedSemaphore
    own: threading.BoundedSemaphore
    """The bound for the issuer, whose callers all count in `total`, too."""

    def enter(self) -> bool:
        """Count one more waiting caller; return False, without counting it, if a bound is reached."""
        if not self.own.acquire(blocking=False):
            return False
        if not self.total.acquire(blocking=False):
            self.own.release()
            return False
        return True

    def leave(self) -> None:
        """Count one waiting caller less: once for each `enter` that returned True."""
        self.total.release()
        self.own.release()


class RemoteKeys:
    """The keys of one issuer, fetched from its URL again and again until `close`."""

    def __init__(
        self,
        issuer: str,
        url: str,
        *,
        fetch: Fetch,
        read: Callable[[bytes], KeySet],
        clock: Clock,
        event_log: EventLog,
        policy: RefreshPolicy,
        waiting: Waiting,
    ) -> None:
        self._issuer = issuer
        self._url = url
        self._fetch = fetch
        self._read = read
        self._clock = clock
        self._event_log = event_log
        self._policy = policy
        self._waiting = waiting
        self._changed = threading.Condition()
        self._found = KeySet(keys={})
        self._expire = 0.0
        self._last_succeeded = False
        """True if the last attempt succeeded."""
        self._attempts = 0
        self._failures = 0
        """The number of consecutive failed attempts, at most 10."""
        self._fetching = False
        self._wanted = False
        now = clock.monotonic()
        self._due = now
        self._earliest = now
        """The earliest time of the next request, by the monotonic clock."""
        self._closing = False
        self._has_thread = False
        with self._changed:
            self._ensure_thread(now)

    def find(self, key_id: str) -> VerifyingKey | None:
        """Return the key with this id, or None if the issuer has none.

        If the key is not known, waits for a request, unless the last one was too recent. Raises
        IssuerUnreachableError if too many callers wait, if the wait is too long, or if the key is not known
        and the last request failed.
        """
        with self._changed:
            key, now = self._known(key_id), self._clock.monotonic()
            self._ensure_thread(now)
            if now >= self._due:
                self._changed.notify_all()  # the thread's timeout may be late if the machine was suspended
            if key is None and (self._fetching or now >= self._earliest):
                self._await_attempt()
                key = self._known(key_id)
            if key is None and not self._last_succeeded:
                raise IssuerUnreachableError
            return key

    def close(self) -> None:
        """Make no further requests, without waiting for one in progress."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _ensure_thread(self, now: float) -> None:
        """Start the thread if there is none. The caller holds the lock.

        If the system gives no thread, that counts as a failed attempt. The next attempt is made when a caller
        asks for a key after `floor` has passed.
        """
        if self._has_thread or self._closing or now < self._earliest:
            return
        try:
            threading.Thread(target=self._run, name="identity-issuer", daemon=True).start()
        except RuntimeError:
            self._fail(f"the server cannot be asked: {REFUSED}")
        else:
            self._has_thread = True

    def _known(self, key_id: str) -> VerifyingKey | None:
        """Return a key that has been fetched and has not expired, or None."""
        return self._found.keys.get(key_id) if self._clock.monotonic() < self._expire else None

    def _await_attempt(self) -> None:
        """Request an attempt, or join the one in progress, and wait until it ends. The caller holds the lock.

        Raises IssuerUnreachableError if too many callers wait already, or after `patience`.
        """
        wanted = self._attempts + 1
        if not self._fetching:
            self._wanted = True
            self._changed.notify_all()
        if not self._waiting.enter():
            raise IssuerUnreachableError
        try:
            patience = self._policy.patience.total_seconds()
            if not self._changed.wait_for(lambda: self._attempts >= wanted or self._closing, patience):
                raise IssuerUnreachableError
        finally:
            self._waiting.leave()

    def _run(self) -> None:
        while self._await_turn():
            try:
                document = self._fetch(self._url)
                found = self._read(document.body)
            except FetchError as error:
                self._fail(str(error))
            except ValueError as error:
                self._fail(f"the answer of the server is not a key set: {error}")
            except Exception as error:  # noqa: BLE001  # an unexpected response must not end the thread
                self._fail(f"the answer of the server cannot be used: {type(error).__name__}")
            else:
                self._succeed(found, self._policy.age_of(document))

    def _await_turn(self) -> bool:
        """Wait until the next request is due; return False if the source has been closed."""
        with self._changed:
            while not self._closing:
                left = (self._earliest if self._wanted else self._due) - self._clock.monotonic()
                if left <= 0:
                    self._fetching, self._wanted = True, False
                    return True
                self._changed.wait(left)
            return False

    def _succeed(self, found: KeySet, age: float) -> None:
        """Use these keys from now on; fetch them again after `age` seconds."""
        with self._changed:
            now = self._clock.monotonic()
            known = self._found
            if known.keys.keys() != found.keys.keys() or known.unused != found.unused or self._failures:
                self._event_log.record("issuer_keys_read", issuer=self._issuer, **found.summary())
            self._found = found
            self._due, self._expire = now + age, now + age + self._policy.kept.total_seconds()
            self._failures = 0
            self._conclude(now, good=True)

    def _fail(self, why: str) -> None:
        """Record a failed attempt; the next one is due after an exponential backoff."""
        self._event_log.record("issuer_keys_failed", issuer=self._issuer, why=why)
        with self._changed:
            now = self._clock.monotonic()
            pause = min(self._policy.floor.total_seconds() * 2**self._failures, _MAX_BACKOFF)
            self._failures = min(self._failures + 1, 10)
            self._due = now + pause
            self._conclude(now, good=False)

    def _conclude(self, now: float, *, good: bool) -> None:
        """Note the end of an attempt, and wake the callers that wait for it. The caller holds the lock."""
        self._last_succeeded = good
        self._earliest = now + self._policy.floor.total_seconds()
        self._fetching = self._wanted = False
        self._attempts += 1
        self._changed.notify_all()
