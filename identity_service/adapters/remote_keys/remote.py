"""The keys of one issuer behind a URL: fetched by a thread of their own, waited for only by who must.

One thread for each issuer: two requests never run at once, and an issuer that is slow or away holds up
nobody but those who show its tokens, of whom few may wait. Knows no HTTP and reads no key itself.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from identity_service.adapters.remote_keys.fetching import Document, FetchError
from identity_service.adapters.remote_keys.told import keys_read
from identity_service.domain.errors import IssuerUnreachableError
from identity_service.domain.ports import Clock, EventLog, VerifyingKey
from identity_service.jose.jwks import KeySet
from identity_service.process.thread_limit import REFUSED

Fetch = Callable[[str], Document]
_LONGEST_PAUSE: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPolicy:
    """How often an issuer is asked, and how long its answers count."""

    floor: timedelta = timedelta(seconds=10)
    """Between two requests, whatever tokens name: invented key ids must not become requests."""
    age: timedelta = timedelta(minutes=15)
    """Of an answer that does not say how long it may be kept; then it is fetched again."""
    least_age: timedelta = timedelta(minutes=5)
    most_age: timedelta = timedelta(hours=24)
    kept: timedelta = timedelta(hours=24)
    """How long the last good answer counts beyond its age while no new one is to be had."""
    patience: timedelta = timedelta(seconds=5)
    """How long a caller waits for a request in progress."""

    def age_of(self, document: Document) -> float:
        """Seconds until it is fetched again."""
        asked = self.age if document.max_age is None else document.max_age
        return min(max(asked, self.least_age), self.most_age).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Places for callers who wait: of all issuers, and of one."""

    total: threading.BoundedSemaphore
    own: threading.BoundedSemaphore

    @classmethod
    def of(cls, total: threading.BoundedSemaphore, own: int) -> "Waiting":
        return cls(total=total, own=threading.BoundedSemaphore(own))

    def enter(self) -> bool:
        """Take a place, if there is one."""
        if not self.own.acquire(blocking=False):
            return False
        if not self.total.acquire(blocking=False):
            self.own.release()
            return False
        return True

    def leave(self) -> None:
        self.total.release()
        self.own.release()


class RemoteKeys:
    """Keeps the keys of one issuer fresh until it is closed."""

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
        self._good = False
        """Whether the last attempt succeeded."""
        self._attempts = 0
        self._failures = 0
        """In a row."""
        self._fetching = False
        self._wanted = False
        now = clock.monotonic()
        self._due = now
        self._earliest = now
        """No request before this."""
        self._closing = False
        self._has_thread = False
        with self._changed:
            self._require_thread(now)

    def find(self, key_id: str) -> VerifyingKey | None:
        """The key, or None where the issuer has none of this id. Raises IssuerUnreachableError."""
        with self._changed:
            key, now = self._known(key_id), self._clock.monotonic()
            self._require_thread(now)
            if now >= self._due:
                self._changed.notify_all()  # the thread may have slept through it, with the machine
            if key is None and (self._fetching or now >= self._earliest):
                self._await_attempt()
                key = self._known(key_id)
            if key is None and not self._good:
                raise IssuerUnreachableError
            return key

    def close(self) -> None:
        """Ask no more; a request in progress ends by itself."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _require_thread(self, now: float) -> None:
        """Start the thread if there is none; the lock is held.

        If the system gives none, that counts as a failed attempt: the next one is made when a key is asked
        for and `floor` has passed.
        """
        if self._has_thread or self._closing or now < self._earliest:
            return
        try:
            threading.Thread(target=self._run, name="identity-issuer", daemon=True).start()
        except RuntimeError:
            self._fail(f"it cannot be asked: {REFUSED}")
        else:
            self._has_thread = True

    def _known(self, key_id: str) -> VerifyingKey | None:
        return self._found.keys.get(key_id) if self._clock.monotonic() < self._expire else None

    def _await_attempt(self) -> None:
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
                self._fail(f"its answer is no key set: {error}")
            except Exception as error:  # noqa: BLE001  # one odd answer must not end all later attempts
                self._fail(f"its answer cannot be used: {type(error).__name__}")
            else:
                self._succeed(found, self._policy.age_of(document))

    def _await_turn(self) -> bool:
        with self._changed:
            while not self._closing:
                left = (self._earliest if self._wanted else self._due) - self._clock.monotonic()
                if left <= 0:
                    self._fetching, self._wanted = True, False
                    return True
                self._changed.wait(left)
            return False

    def _succeed(self, found: KeySet, age: float) -> None:
        with self._changed:
            now = self._clock.monotonic()
            known = self._found
            if known.keys.keys() != found.keys.keys() or known.unused != found.unused or self._failures:
                keys_read(self._event_log, self._issuer, found)
            self._found = found
            self._due, self._expire = now + age, now + age + self._policy.kept.total_seconds()
            self._failures = 0
            self._conclude(now, good=True)

    def _fail(self, why: str) -> None:
        self._event_log.record("issuer_keys_failed", issuer=self._issuer, why=why)
        with self._changed:
            now = self._clock.monotonic()
            pause = min(self._policy.floor.total_seconds() * 2**self._failures, _LONGEST_PAUSE)
            self._failures = min(self._failures + 1, 10)
            self._due = now + pause
            self._conclude(now, good=False)

    def _conclude(self, now: float, *, good: bool) -> None:
        self._good = good
        self._earliest = now + self._policy.floor.total_seconds()
        self._fetching = self._wanted = False
        self._attempts += 1
        self._changed.notify_all()
