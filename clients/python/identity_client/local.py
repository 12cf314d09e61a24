"""Verifying without asking: in microseconds, with what the service tells of keys and revocations.

from identity_client import LocalVerifier, Verified

with LocalVerifier("127.0.0.1:50051", issuer="https://identity.example") as verifier:
    outcome = verifier.verify(token, audiences=["api"], required_scopes=["read"])
    if isinstance(outcome, Verified):
        ...

A thread follows Watch. `verify` reads memory alone, so it may be called from any thread and from a loop of
asyncio.
"""

import contextlib
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import blake2b
from types import TracebackType
from typing import Final, Self

from identity_client.access_tokens import RejectedError, SignedToken, UnknownKeyError, key_principal, read
from identity_client.backoff import Backoff
from identity_client.decryption import DecryptionKey, NotOpenableError
from identity_client.errors import IdentityError, SilentError
from identity_client.freshness import (
    STEP,
    ClockSetBackError,
    ClockSkewedError,
    Freshness,
    LateError,
    steady,
    wall,
)
from identity_client.lru_cache import LruCache
from identity_client.options import ClientOptions
from identity_client.trust import TrustClient, WatchEvent
from identity_client.trust_state import LOST, RETIRED, TrustState
from identity_client.values import Outcome, Rejected, Verified

_TOKEN_BYTES: Final = 4000
"""What a remembered token needs beside its text."""


class NotFreshError(Exception):
    """No token can be called good or bad: too little, or nothing lately, was heard of the service."""


@dataclass(slots=True)
class _Known:
    """A token whose signature verified, with what every call compares."""

    token: SignedToken
    verified: Verified
    valid_from: float
    valid_until: float
    audiences: frozenset[str]
    scopes: frozenset[str]
    principals: frozenset[str]
    first_seen: float
    """When the signature was verified, by the steady clock."""


class LocalVerifier:
    """Says what `IdentityClient.verify` says, without a call. Follows the service from the start."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        issuer: str,
        options: ClientOptions | None = None,
        decryption_keys: Iterable[DecryptionKey] = (),
        max_staleness: timedelta = timedelta(seconds=5),
        leeway: timedelta = timedelta(seconds=10),
        cache_bytes: int = 16 * 2**20,
    ) -> None:
        """
        Args:
            issuer: `iss` of the service's tokens, its setting `issuer`; no other is trusted.
            options: of the connection; `bearer` where the service asks who watches.
            decryption_keys: of the audience that verifies, for tokens that were encrypted to it.
            max_staleness: how long after the last confirmation of the service's store tokens are still
                judged; then `verify` raises NotFreshError.
            leeway: how far clocks may differ: beyond, `verify` raises NotFreshError, as the service says
                UNAVAILABLE.
            cache_bytes: memory for tokens that were verified, about 5 KiB each.

        It is no use in a child process that was forked after this: make one there.
        """
        self._client = TrustClient(target, options=options)
        self._issuer = issuer
        self._decryption_keys = tuple(decryption_keys)
        self._leeway = leeway.total_seconds()
        self._max_silence = max_staleness / 2
        self._fresh = Freshness(max_staleness=max_staleness, leeway=leeway)
        self._state = TrustState()
        self._cache: LruCache[_Known] = LruCache(cache_bytes)
        self._trouble: Exception | None = None
        self._skewed = False
        """Whether something was told by a service whose clock was not that of this machine."""
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="identity-watch", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop following; nothing is called good afterwards."""
        with self._changed:
            self._closing.set()
            self._fresh.end()
        self._client.close()
        self._thread.join(timeout=5)

    def wait_ready(self, timeout: timedelta = timedelta(seconds=10)) -> None:
        """Until tokens can be judged. Raises NotFreshError when that takes too long."""
        with self._changed:
            if not self._changed.wait_for(self._is_fresh, timeout.total_seconds()):
                self._require_fresh()

    def verify(
        self,
        token: str,
        *,
        audiences: Collection[str] = (),
        any_audience: bool = False,
        required_scopes: Collection[str] = (),
        certificate_sha256: bytes = b"",
    ) -> Outcome:
        """As `IdentityClient.verify`. Raises NotFreshError; ValueError: nothing says who is asking."""
        state, fresh = self._state, self._fresh
        now, steady = _now(), _steady()
        if not (steady <= fresh.until and -STEP <= now - steady - fresh.offset <= STEP and state.complete):
            self._require_fresh()
            now = _now()
        digest = blake2b(token.encode("utf-8", "surrogatepass")).digest()
        known = self._cache.get(digest)
        # Read before the token is checked: it may understate what is known, never overstate.
        revision = state.revision
        if known is None:
            try:
                known = self._read(token)
            except RejectedError as error:
                return Rejected(reason=error.reason, detail=str(error), revision=revision)
            self._cache.put(digest, known, _TOKEN_BYTES + len(token))
        if known.token.key_id not in state.keys:
            return self._of_no_key(known.token.key_id)
        if not known.valid_from <= now < known.valid_until:
            return self._untimely(known, now)
        why = state.why_revoked(known.token, known.principals)
        if why is None and known.token.generations:
            why = self._why_lost(known)
        if why is not None:
            return self._rejected("REVOKED", why)
        refused = self._unfit(known, audiences, any_audience, required_scopes, certificate_sha256)
        if refused is not None:
            return refused
        verified = known.verified
        if verified.revision is not revision:
            verified = known.verified = replace(verified, revision=revision)
        return verified

    def _unfit(
        self,
        known: _Known,
        audiences: Collection[str],
        any_audience: bool,
        required_scopes: Collection[str],
        certificate_sha256: bytes,
    ) -> Rejected | None:
        """What is asked for and the token has not."""
        if isinstance(audiences, str) or isinstance(required_scopes, str):
            raise TypeError("audiences and required_scopes must be lists of texts, not one text")
        if not any_audience and known.audiences.isdisjoint(audiences):
            if not audiences:
                raise ValueError("audiences must name who is asking, or any_audience must be true")
            return self._rejected("WRONG_AUDIENCE", "the token is for another audience")
        if required_scopes and not known.scopes.issuperset(required_scopes):
            return self._rejected("INSUFFICIENT_SCOPE", "the token lacks a required scope")
        bound = known.verified.certificate_sha256
        if bound and bound != certificate_sha256:
            return self._rejected("BINDING_MISMATCH", "the token is bound to another certificate")
        return None

    def _read(self, text: str) -> _Known:
        token = self._read_signed(text)
        says = token.says
        return _Known(
            token=token,
            verified=says,
            valid_from=token.valid_from - self._leeway,
            valid_until=token.valid_until + self._leeway,
            audiences=frozenset(says.audiences),
            scopes=frozenset(says.scopes),
            principals=token.principals,
            first_seen=_steady(),
        )

    def _read_signed(self, text: str) -> SignedToken:
        if text.count(".") == 4:
            for key in self._decryption_keys:
                with contextlib.suppress(NotOpenableError):
                    text = key.decrypt(text)  # what is inside is not opened again
                    break
        try:
            return read(text, self._state.keys, self._issuer, self._state.revision)
        except UnknownKeyError as error:
            if key_principal(error.key_id) in self._state.generations:
                raise RejectedError("REVOKED", RETIRED) from None
            raise

    def _of_no_key(self, key_id: str) -> Rejected:
        if key_principal(key_id) in self._state.generations:
            return self._rejected("REVOKED", RETIRED)
        return self._rejected("UNKNOWN_KEY", "the token's key is no longer in use")

    def _untimely(self, known: _Known, now: float) -> Rejected:
        if now < known.valid_from:
            return self._rejected("NOT_YET_VALID", "the token is not valid yet")
        return self._rejected("EXPIRED", "the token has expired")

    def _why_lost(self, known: _Known) -> str | None:
        """Return a sentence if the token names a generation that the service does not have.

        Raises NotFreshError until the service has confirmed all that it knew when the token came.
        """
        if not self._state.is_ahead(known.token):
            return None
        if self._fresh.confirmed <= known.first_seen:
            raise NotFreshError("the token names a generation that was not told yet; try again")
        return LOST if self._state.is_ahead(known.token) else None

    def _rejected(self, reason: str, detail: str) -> Rejected:
        return Rejected(reason=reason, detail=detail, revision=self._state.revision)

    def _is_fresh(self) -> bool:
        # What was confirmed lasts while a stream is resumed, but not once the service says that it tells
        # everything again: what happened before may have been taken back, or have been another history's.
        return _steady() <= self._fresh.until and self._state.complete and self._fresh.is_steady()

    def _require_fresh(self) -> None:
        if self._is_fresh():
            return
        why = f": {self._trouble}" if self._trouble is not None else ""
        if not self._state.complete:
            raise NotFreshError(f"not all that was revoked is known yet{why}")
        if _steady() <= self._fresh.until:
            raise NotFreshError("the clock of this machine was set and is being checked; try again")
        raise NotFreshError(f"the service has confirmed nothing for too long{why}")

    def _follow(self) -> None:
        """Watch, and watch again from where it ended, until this is closed."""
        backoff, max_silence = Backoff(), self._max_silence
        while not self._closing.is_set():
            failure: Exception | None = None
            if self._skewed:
                # A service whose clock was ahead has left out what is over by it: a client that resumed would
                # never hear of that, once the clocks agree.
                self._state.start_over()
                self._skewed = False
            try:
                self._fresh.begin()
                for news in self._client.watch(self._state.revision, max_silence=max_silence):
                    self._hear(news)
                    if news.time is not None:  # a heartbeat comes last: this stream has said all it had to
                        backoff.reset()
            except ClockSetBackError as error:
                self._trouble = error
                self._state.start_over()
            except (IdentityError, LateError) as error:
                self._trouble = failure = error
            except Exception as error:  # noqa: BLE001  # of a newer service, or a bug: known is not all
                self._trouble = failure = error
                self._fresh.end()  # passing over it could let a token pass
            # A service that sends few heartbeats, or has many watchers to begin with, is given more time.
            max_silence = self._max_silence * (2 if isinstance(failure, SilentError) else 1)
            self._closing.wait(backoff.next_pause(failure))

    def _hear(self, news: WatchEvent) -> None:
        if news.restarted:
            self._fresh.start_over()
        self._state.fold(news)
        if news.time is None or news.staleness is None or not self._state.complete:
            return
        if not self._state.keys:
            raise ValueError(
                "the service publishes no key that this client knows; with HS256 only the service can verify"
            )
        with self._changed:
            if self._closing.is_set():
                return
            try:
                self._fresh.confirm(news.time, news.staleness)
            except ClockSkewedError as error:
                self._trouble, self._skewed = error, True
                return
            self._trouble = None
            self._changed.notify_all()
        self._state.evict(self._fresh.forgettable())


_steady: Final = steady
_now: Final = wall
