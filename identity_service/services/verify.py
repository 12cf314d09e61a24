"""The use case Verify: decides whether an access token is valid, from memory.

It reads the store only if the request asks for that (`strong`, `at_least_revision`), or if the token names a
generation that this process does not know yet.

The cache holds tokens whose signature was verified, not answers: expiry, audience, scope, certificate
binding, key and revocation are checked on every call.
"""

import hashlib
import hmac
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Generic, TypeVar

from identity_service.domain.log import Revision
from identity_service.domain.ports import Clock, KeySource, ReplicaView, TokenCodec
from identity_service.domain.revocations import RevocationKeys, is_ahead
from identity_service.domain.tokens import MAX_TOKEN_CHARS, AccessToken, Rejected, RejectionReason
from identity_service.telemetry.counters import Counter
from identity_shared.lru_cache import LruCache, weight_of_json

R = TypeVar("R")
_LOST: Final = "the token was issued in a history of the store that was lost"
_TOKEN_BYTES: Final = 3000
"""The memory of a cached token in bytes, in addition to three times the length of its text, and to its extra
claims."""


class StoreReadRequiredError(Exception):
    """The answer needs a read of the store, or other work for a thread, and the request does not wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """A token and the requirements that it must meet."""

    token: str = field(repr=False)
    audiences: Sequence[str] = ()
    """The audiences of which the token must have at least one; ignored if `any_audience` is True."""
    any_audience: bool = False
    required_scopes: Sequence[str] = ()
    """The scopes, all of which the token must have."""
    at_least_revision: Revision | None = None
    """The revision up to which `Verifier.prepare` reads the log first."""
    strong: bool = False
    """True if `Verifier.prepare` reads the log to its end first."""
    certificate_sha256: bytes = b""
    """The SHA-256 of the certificate that the token was presented with; empty = there was none."""
    key_sha256: bytes = b""
    """The SHA-256 thumbprint of the key whose proof came with the token (RFC 9449); empty = the token came
    without a proof, as a bearer token. An unbound token is rejected with a proof."""
    any_holder: bool = False
    """True = accept a bound token without the certificate or key, for a caller that checks the binding
    itself."""
    may_wait: bool = True
    """True if the call may wait for the store, and for a check that takes long. False = raise
    StoreReadRequiredError instead, for a caller on an event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified(Generic[R]):
    """A token whose signature was verified, with the values that every call compares."""

    token: AccessToken
    rendered: R
    """The token in the form that the transport answers with, made once for each token by `render`."""
    key_id: str
    valid_from: float
    """The start of its validity in Unix seconds, with the leeway subtracted."""
    valid_until: float
    """The end of its validity in Unix seconds, with the leeway added."""
    audiences: frozenset[str]
    scopes: frozenset[str]
    revocation_keys: RevocationKeys
    first_seen: float
    """The monotonic time, in seconds, at which the first call with this token arrived at this process, or
    later."""


class Verifier(Generic[R]):
    """The use case Verify: checks tokens against the keys and revocations that this process has in memory."""

    def __init__(
        self,
        codec: TokenCodec,
        keys: KeySource,
        replica: ReplicaView,
        clock: Clock,
        render: Callable[[AccessToken], R],
        *,
        leeway: timedelta,
        cache_bytes: int,
        serve_stale: bool = False,
    ) -> None:
        self._codec = codec
        self._keys = keys
        self._replica = replica
        self._clock = clock
        self._render = render
        self._leeway = leeway.total_seconds()
        self._revocations = replica.revocations
        self._cache: LruCache[bytes, Verified[R]] = LruCache(cache_bytes)
        self.cache_hits = Counter()
        """The tokens that were found in the cache."""
        self.cache_misses = Counter()
        """The tokens that had to be read, their signature included."""
        self._read_at = -math.inf
        """The monotonic time, in seconds, at which the last complete read of the log for a generation that is
        ahead began."""
        self._require = replica.require_clock if serve_stale else replica.require_fresh

    def prepare(self, *requests: VerifyRequest) -> float:
        """Read the log as far as these requests require: once for all that are `strong`, or not at all.

        Returns the time at which the requests arrived (monotonic seconds), to be passed to `verify`. Raises
        RevisionNotReachedError, ServerBusyError, StoreUnavailableError.
        """
        came = self._clock.monotonic()
        for request in requests:
            if request.strong:
                self._replica.reach(None)
                break
        for request in requests:
            if request.at_least_revision is not None:
                self._replica.reach(request.at_least_revision)
        return came

    def verify(self, request: VerifyRequest, came: float | None = None) -> Verified[R] | Rejected:
        """Return the token if it is valid by the log as this process knows it, else why it is rejected.

        The caller has called `prepare` first. If the token names a higher generation than this process
        knows, the log is read to its end first; once for all tokens of a batch that have the same `came`
        (the arrival time that `prepare` returned).

        Raises:
            UnavailableError: this process's data is too old to answer, or the store cannot be read.
            StoreReadRequiredError: `request.may_wait` is False, and the log would have to be read, or a
                signature verified that is not quick.
        """
        self._require()
        known = self._recall(request.token, came, may_wait=request.may_wait)
        if isinstance(known, Rejected):
            return known
        return (
            self._check_current(known, may_wait=request.may_wait)
            or _check_requirements(known, request)
            or known
        )

    def is_still_good(self, verified: Verified[R]) -> bool:
        """Return whether a token that `verify` accepted is still valid: not expired, retired or revoked.

        The audience, the scopes and the binding are not compared again. Reads no store: a token that names
        a higher generation than this process knows is not valid here. Raises UnavailableError as `verify`
        does.
        """
        self._require()
        return (
            verified.valid_from <= self._clock.unix() < verified.valid_until
            and verified.key_id in self._keys.verifying
            and self._revocations.why_revoked(verified.token, verified.revocation_keys) is None
            and not (verified.token.generations and self._is_ahead(verified))
        )

    def is_revoked(self, verified: Verified[R]) -> bool:
        """Return whether this process knows that a token that `verify` accepted has been revoked since."""
        return self._revocations.why_revoked(verified.token, verified.revocation_keys) is not None

    def _recall(self, text: str, came: float | None, *, may_wait: bool) -> Verified[R] | Rejected:
        """Return the token with this exact text, from the cache or by verifying its signature.

        Raises StoreReadRequiredError if `may_wait` is False, and verifying it takes long.
        """
        if len(text) > MAX_TOKEN_CHARS:
            return _reject(RejectionReason.MALFORMED, "the token is longer than 8 KiB")
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        known = self._cache.get(digest)
        if known is not None:
            self.cache_hits.increment()
            return known
        if not may_wait and not self._codec.is_quick(text):
            raise StoreReadRequiredError
        self.cache_misses.increment()
        token = self._codec.read(text)
        if isinstance(token, Rejected):
            return token
        known = Verified(
            token=token,
            rendered=self._render(token),
            key_id=token.key_id or "",
            valid_from=max(token.issue_time, token.not_before or token.issue_time).timestamp() - self._leeway,
            valid_until=token.expire_time.timestamp() + self._leeway,
            audiences=frozenset(token.audiences),
            scopes=frozenset(token.scopes),
            revocation_keys=RevocationKeys.of(token),
            first_seen=self._clock.monotonic() if came is None else came,
        )
        self._cache.put(digest, known, _TOKEN_BYTES + 3 * len(text) + weight_of_json(token.claims))
        return known

    def _check_current(self, known: Verified[R], *, may_wait: bool) -> Rejected | None:
        """Check everything that may have changed since the signature was verified: key, times, revocation."""
        now = self._clock.unix()
        if known.key_id not in self._keys.verifying:
            return _reject(RejectionReason.UNKNOWN_KEY, "the token's key is no longer in use")
        if now >= known.valid_until:
            return _reject(RejectionReason.EXPIRED, "the token has expired")
        if now < known.valid_from:
            return _reject(RejectionReason.NOT_YET_VALID, "the token is not valid yet")
        ahead = (
            known.token.generations
            and self._is_ahead(known)
            and self._is_of_lost_history(known, may_wait=may_wait)
        )
        why = self._revocations.why_revoked(known.token, known.revocation_keys)
        if why is None and ahead:
            why = _LOST
        return None if why is None else _reject(RejectionReason.REVOKED, why)

    def _is_of_lost_history(self, known: Verified[R], *, may_wait: bool) -> bool:
        """Return whether the token names a generation that the log, read to its end, does not have.

        The log is read only if the store has not confirmed a heartbeat since the token was first seen here,
        and no such read has begun since. Raises StoreReadRequiredError if it would be read and `may_wait` is
        False.
        """
        # The age is computed before the staleness is read: if the thread is held up in between, it must not
        # take an older heartbeat for a newer one.
        age = self._clock.monotonic() - known.first_seen
        if self._replica.staleness >= age and known.first_seen > self._read_at:
            if not may_wait:
                raise StoreReadRequiredError
            begun = self._clock.monotonic()
            self._replica.reach(None)
            self._read_at = begun
        return self._is_ahead(known)

    def _is_ahead(self, known: Verified[R]) -> bool:
        return is_ahead(self._revocations.generations, known.token.generations)


def _check_requirements(known: Verified[R], request: VerifyRequest) -> Rejected | None:
    """Return why the token does not meet the request's audience, scopes, certificate or key, or None."""
    if not request.any_audience and known.audiences.isdisjoint(request.audiences):
        return _reject(RejectionReason.WRONG_AUDIENCE, "the token is for another audience")
    if request.required_scopes and not known.scopes.issuperset(request.required_scopes):
        return _reject(RejectionReason.INSUFFICIENT_SCOPE, "the token lacks a required scope")
    if request.any_holder:
        return None
    return check_binding(known.token, request.certificate_sha256, request.key_sha256)


def check_binding(token: AccessToken, certificate_sha256: bytes, key_sha256: bytes) -> Rejected | None:
    """Reject a token that came without the certificate or the key's proof to which it is bound.

    A certificate beside an unbound token means nothing (RFC 8705 section 3); a proof beside it is refused,
    since the holder then uses a bearer token as if it were bound (RFC 9449 section 7.1).
    """
    bound = token.certificate_sha256
    if bound is not None and not hmac.compare_digest(bound, certificate_sha256):
        return _reject(RejectionReason.BINDING_MISMATCH, "the token is bound to another certificate")
    if (token.key_sha256 or b"") != key_sha256:
        return _reject(RejectionReason.BINDING_MISMATCH, _why_other_key(token, key_sha256))
    return None


def _why_other_key(token: AccessToken, shown: bytes) -> str:
    if token.key_sha256 is None:
        return "the token is bound to no key, and came with a proof"
    return "the token is bound to another key" if shown else "the token is bound to a key: it needs a proof"


def _reject(reason: RejectionReason, detail: str) -> Rejected:
    return Rejected(reason=reason, detail=detail)
