"""Verifies tokens locally, in microseconds, with the keys and revocations that the service streams.

from identity_client import LocalVerifier, Verified

with LocalVerifier("127.0.0.1:50051", issuer="https://identity.example") as verifier:
    outcome = verifier.verify(token, audiences=["api"], required_scopes=["read"])
    if isinstance(outcome, Verified):
        ...

A background thread follows `TrustService.Watch`. `verify` only reads memory, so it may be called from any
thread and in an asyncio event loop.
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
from identity_client.options import ClientOptions
from identity_client.trust import TrustClient, WatchEvent
from identity_client.trust_state import LOST, RETIRED, TrustState
from identity_client.values import Outcome, Rejected, Verified
from identity_shared.lru_cache import LruCache

_TOKEN_BYTES: Final = 4000
"""The approximate memory of one cache entry in bytes, without the text of the token."""


class NotFreshError(Exception):
    """No token can be verified, because the state from the service is incomplete or too old."""


@dataclass(slots=True)
class _Known:
    """A cache entry: a token whose signature was verified, prepared for the checks of each call."""

    token: SignedToken
    verified: Verified
    valid_from: float
    valid_until: float
    audiences: frozenset[str]
    scopes: frozenset[str]
    principals: frozenset[str]
    first_seen: float
    """The time at which the signature was verified, in seconds by the boot clock."""


class LocalVerifier:
    """A verifier that answers like `IdentityClient.verify`, without a call to the service.

    Make one for each process and keep it; it follows the service as soon as it is made. It may be used as a
    context manager, which closes it. It does not work in a child process that was forked afterwards.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        issuer: str | Collection[str],
        options: ClientOptions | None = None,
        decryption_keys: Iterable[DecryptionKey] = (),
        max_staleness: timedelta = timedelta(seconds=5),
        leeway: timedelta = timedelta(seconds=10),
        cache_bytes: int = 16 * 2**20,
    ) -> None:
        """Start to follow the service in a background thread.

        Args:
            target: host:port of the service.
            issuer: the service's setting `issuer`; tokens with another `iss` are rejected. To accept former
                values too (`accepted_issuers` of the service), give a collection of all of them.
            options: the options of the connection; set `bearer` if the service has `require_caller_auth` or
                TLS.
            decryption_keys: keys of the audience that verifies, for tokens that were encrypted to it.
            max_staleness: the time after the last confirmation of the service's store for which tokens are
                verified; afterwards `verify` raises NotFreshError.
            leeway: the largest difference between the clocks of this machine and of the service; if they
                differ by more, `verify` raises NotFreshError. It is also added to the lifetime of tokens. At
                most the service's.
            cache_bytes: the memory for verified tokens, about 5 KiB each.

        Raises ValueError if no issuer is given, OSError if a file of `options.tls` cannot be read.
        """
        self._issuers = frozenset((issuer,) if isinstance(issuer, str) else issuer)
        if not self._issuers:
            raise ValueError("issuer must name the service's issuer, or several")
        self._client = TrustClient(target, options=options)
        self._decryption_keys = tuple(decryption_keys)
        self._leeway = leeway.total_seconds()
        self._max_silence = max_staleness / 2
        self._fresh = Freshness(max_staleness=max_staleness, leeway=leeway)
        self._state = TrustState()
        self._cache: LruCache[bytes, _Known] = LruCache(cache_bytes)
        self._trouble: Exception | None = None
        self._skewed = False
        """True if a heartbeat came from a service whose clock differs by more than the leeway."""
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
        """Stop following the service; afterwards `verify` raises NotFreshError."""
        with self._changed:
            self._closing.set()
            self._fresh.end()
        self._client.close()
        self._thread.join(timeout=5)

    def wait_ready(self, timeout: timedelta = timedelta(seconds=10)) -> None:
        """Wait until tokens can be verified. Raises NotFreshError after `timeout`."""
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
        dpop_key_sha256: bytes = b"",
    ) -> Outcome:
        """Verify an access token; return a Verified or a Rejected.

        Args:
            token: the access token as received, without "Bearer ".
            audiences: the audiences that the caller accepts; the token must be for one of them.
            any_audience: whether to accept a token for any audience instead.
            required_scopes: the token must have all of these scopes.
            certificate_sha256: SHA-256 of the DER of the certificate that the token's holder showed to the
                caller, 32 bytes; b"" = none. Required for a token that is bound to one (RFC 8705).
            dpop_key_sha256: SHA-256 JWK thumbprint of the key in the DPoP proof that came with the token, and
                that the caller has checked, 32 bytes; b"" = the token came as "Bearer". Required for a token
                that is bound to a key (RFC 9449); an unbound token is rejected if it is given.

        Raises NotFreshError if the service has confirmed its state too long ago, or not yet; ValueError if
        neither audiences nor `any_audience` is given; TypeError if one text is given in place of a list.
        """
        state, fresh = self._state, self._fresh
        now, steady = _now(), _steady()
        if not (steady <= fresh.until and -STEP <= now - steady - fresh.offset <= STEP and state.complete):
            self._require_fresh()
            now = _now()
        digest = blake2b(token.encode("utf-8", "surrogatepass")).digest()
        known = self._cache.get(digest)
        # Read before the token is checked: the revision is never newer than the state that was checked.
        revision = state.revision
        if known is None:
            try:
                known = self._read(token)
            except RejectedError as error:
                return Rejected(reason=error.reason, detail=str(error), revision=revision)
            self._cache.put(digest, known, _TOKEN_BYTES + len(token))
        if known.token.key_id not in state.keys:
            return self._reject_unknown_key(known.token.key_id)
        if not known.valid_from <= now < known.valid_until:
            return self._reject_by_time(known, now)
        why = state.why_revoked(known.token, known.principals)
        if why is None and known.token.generations:
            why = self._why_lost(known)
        if why is not None:
            return self._rejected("REVOKED", why)
        refused = self._check_requirements(
            known, audiences, any_audience, required_scopes, certificate_sha256, dpop_key_sha256
        )
        if refused is not None:
            return refused
        verified = known.verified
        if verified.revision is not revision:
            verified = known.verified = replace(verified, revision=revision)
        return verified

    def _check_requirements(
        self,
        known: _Known,
        audiences: Collection[str],
        any_audience: bool,
        required_scopes: Collection[str],
        certificate_sha256: bytes,
        dpop_key_sha256: bytes,
    ) -> Rejected | None:
        """Return a Rejected if the token lacks an audience, scope or binding that the caller requires."""
        if isinstance(audiences, str) or isinstance(required_scopes, str):
            raise TypeError("audiences and required_scopes must be lists of texts, not one text")
        if not any_audience and known.audiences.isdisjoint(audiences):
            if not audiences:
                raise ValueError("audiences must name this verifier's audience, or any_audience must be true")
            return self._rejected("WRONG_AUDIENCE", "the token is for another audience")
        if required_scopes and not known.scopes.issuperset(required_scopes):
            return self._rejected("INSUFFICIENT_SCOPE", "the token lacks a required scope")
        bound = known.verified.certificate_sha256
        if bound and bound != certificate_sha256:
            return self._rejected("BINDING_MISMATCH", "the token is bound to another certificate")
        if known.verified.dpop_key_sha256 != dpop_key_sha256:
            return self._rejected("BINDING_MISMATCH", "the token is bound to another key, or to none")
        return None

    def _read(self, text: str) -> _Known:
        token = self._read_signed(text)
        claims = token.claims
        return _Known(
            token=token,
            verified=claims,
            valid_from=token.valid_from - self._leeway,
            valid_until=token.valid_until + self._leeway,
            audiences=frozenset(claims.audiences),
            scopes=frozenset(claims.scopes),
            principals=token.principals,
            first_seen=_steady(),
        )

    def _read_signed(self, text: str) -> SignedToken:
        if text.count(".") == 4:
            for key in self._decryption_keys:
                with contextlib.suppress(NotOpenableError):
                    text = key.decrypt(text)  # a token inside that is encrypted again is not decrypted
                    break
        try:
            return read(text, self._state.keys, self._issuers, self._state.revision)
        except UnknownKeyError as error:
            if key_principal(error.key_id) in self._state.generations:
                raise RejectedError("REVOKED", RETIRED) from None
            raise

    def _reject_unknown_key(self, key_id: str) -> Rejected:
        if key_principal(key_id) in self._state.generations:
            return self._rejected("REVOKED", RETIRED)
        return self._rejected("UNKNOWN_KEY", "the token's key is no longer in use")

    def _reject_by_time(self, known: _Known, now: float) -> Rejected:
        if now < known.valid_from:
            return self._rejected("NOT_YET_VALID", "the token is not valid yet")
        return self._rejected("EXPIRED", "the token has expired")

    def _why_lost(self, known: _Known) -> str | None:
        """Return a sentence if the token names a generation that the service does not have.

        Raises NotFreshError until the service's store has confirmed a heartbeat after the token was first
        seen: until then the generation may still be on its way.
        """
        if not self._state.is_ahead(known.token):
            return None
        if self._fresh.confirmed <= known.first_seen:
            raise NotFreshError("the token names a generation that is not known here yet; try again")
        return LOST if self._state.is_ahead(known.token) else None

    def _rejected(self, reason: str, detail: str) -> Rejected:
        return Rejected(reason=reason, detail=detail, revision=self._state.revision)

    def _is_fresh(self) -> bool:
        # The state stays fresh while a stream is resumed, but not after the service has announced a snapshot:
        # some of the state may belong to another history, which was lost.
        return _steady() <= self._fresh.until and self._state.complete and self._fresh.is_steady()

    def _require_fresh(self) -> None:
        if self._is_fresh():
            return
        why = f": {self._trouble}" if self._trouble is not None else ""
        if not self._state.complete:
            raise NotFreshError(f"the revocations are not completely known yet{why}")
        if _steady() <= self._fresh.until:
            raise NotFreshError("the clock of this machine was set and is being checked; try again")
        raise NotFreshError(f"no recent heartbeat of the service has arrived{why}")

    def _follow(self) -> None:
        """Follow Watch until `close`; resume at the last revision after each end of the stream."""
        backoff, max_silence = Backoff(), self._max_silence
        while not self._closing.is_set():
            failure: Exception | None = None
            if self._skewed:
                # A service whose clock is ahead omits denials that have ended by its clock. A client that
                # resumed would never receive them, even when the clocks agree again.
                self._state.start_over()
                self._skewed = False
            try:
                self._fresh.begin()
                for event in self._client.watch(self._state.revision, max_silence=max_silence):
                    self._apply(event)
                    if event.time is not None:  # a heartbeat is sent after all that was missed
                        backoff.reset()
            except ClockSetBackError as error:
                self._trouble = error
                self._state.start_over()
            except (IdentityError, LateError) as error:
                self._trouble = failure = error
            except Exception as error:  # noqa: BLE001  # a newer service or a bug: the state is incomplete
                self._trouble = failure = error
                self._fresh.end()  # an ignored message could have been a revocation
            # More time for a service that sends few heartbeats, or sends a snapshot to many watchers.
            max_silence = self._max_silence * (2 if isinstance(failure, SilentError) else 1)
            self._closing.wait(backoff.next_pause(failure))

    def _apply(self, event: WatchEvent) -> None:
        """Fold an event into the state; a heartbeat then moves the time until which the state is trusted."""
        if event.restarted:
            self._fresh.start_over()
        self._state.fold(event)
        if event.time is None or event.staleness is None or not self._state.complete:
            return
        if not self._state.keys:
            raise ValueError(
                "the service publishes no key that this client knows; with HS256 only the service can verify"
            )
        with self._changed:
            if self._closing.is_set():
                return
            try:
                self._fresh.confirm(event.time, event.staleness)
            except ClockSkewedError as error:
                self._trouble, self._skewed = error, True
                return
            self._trouble = None
            self._changed.notify_all()
        self._state.evict(self._fresh.forgettable())


_steady: Final = steady
_now: Final = wall
