"""Verify: says whether a token is good. Answers from memory; no I/O but where the caller asks for it.

The cache remembers signatures, not answers: expiry, audience, scope, binding, key and revocation are
checked on every call.
"""

import hashlib
import hmac
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

from identity_service.domain.ids import PrincipalId
from identity_service.domain.log import Revision
from identity_service.domain.ports import Clock, KeySource, ReplicaView, TokenCodec
from identity_service.domain.tokens import MAX_TOKEN_CHARS, AccessToken, Rejected, RejectionReason
from identity_service.services.token_cache import RecentCache

R = TypeVar("R")
_LOST: Final = "the token was issued in a history of the store that was lost"
_TOKEN_BYTES: Final = 3000
"""What a remembered token needs beside its text and the answer."""


class MustReadError(Exception):
    """The answer needs a look into the store, and the caller may not wait for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """A token and what it must fulfil."""

    token: str
    audiences: Sequence[str] = ()
    """At least one must be the token's; None of them counts with `any_audience`."""
    any_audience: bool = False
    required_scopes: Sequence[str] = ()
    at_least_revision: Revision | None = None
    strong: bool = False
    certificate_sha256: bytes = b""
    may_wait: bool = True
    """False = the caller runs on an event loop: MustReadError instead of a look into the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified(Generic[R]):
    """The token is good, with what every call compares."""

    token: AccessToken
    rendered: R
    """The token as the door that asks wants it, made once for each token."""
    key_id: str
    valid_from: float
    """In Unix seconds, as `valid_until`."""
    valid_until: float
    audiences: frozenset[str]
    scopes: frozenset[str]
    principals: frozenset[PrincipalId]
    first_seen: float
    """When the call that brought it to this process came, by the monotonic clock, or later."""


class Verifier(Generic[R]):
    """The use case Verify."""

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
        self._cache: RecentCache[bytes, Verified[R]] = RecentCache(cache_bytes)
        self._read_at = -math.inf
        """When a look into the store began after which all was known that there was then."""
        self._require = replica.require_clock if serve_stale else replica.require_fresh

    def prepare(self, *requests: VerifyRequest) -> float:
        """Catch up as far as these requests ask for: one round trip for all of them, or none.

        Returns when they came, for `verify`. Raises RevisionNotReachedError, ServerBusyError,
        StoreUnavailableError.
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
        """Whether the token is good now, as far as the log is known here; `prepare` has been called.

        A token that names a higher generation than is known here has the log read to its end, once; all
        tokens of a batch together, if they `came` at one time.
        Raises UnavailableError when too little is known to answer; MustReadError.
        """
        self._require()
        known = self._recall(request.token, came)
        if isinstance(known, Rejected):
            return known
        return self._lapsed(known, may_wait=request.may_wait) or _unfit(known, request) or known

    def is_still_good(self, verified: Verified[R]) -> bool:
        """Whether the same request would be answered in the same way now: time and the log alone decide.

        Raises UnavailableError as `verify` does.
        """
        self._require()
        return (
            verified.valid_from <= self._clock.unix() < verified.valid_until
            and self._keys.verifying(verified.key_id) is not None
            and self._revocations.why_revoked(verified.token, verified.principals) is None
            and not (verified.token.generations and self._is_ahead(verified))
        )

    def _recall(self, text: str, came: float | None) -> Verified[R] | Rejected:
        """The token with this exact text, from memory or by verifying its signature now."""
        if len(text) > MAX_TOKEN_CHARS:
            return _reject(RejectionReason.MALFORMED, "the token is longer than 8 KiB")
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        known = self._cache.get(digest)
        if known is not None:
            return known
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
            principals=token.principals,
            first_seen=self._clock.monotonic() if came is None else came,
        )
        self._cache.put(digest, known, _TOKEN_BYTES + 3 * len(text))
        return known

    def _lapsed(self, known: Verified[R], *, may_wait: bool) -> Rejected | None:
        """What may have changed since the signature was verified."""
        now = self._clock.unix()
        if self._keys.verifying(known.key_id) is None:
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
        why = self._revocations.why_revoked(known.token, known.principals)
        if why is None and ahead:
            why = _LOST
        return None if why is None else _reject(RejectionReason.REVOKED, why)

    def _is_of_lost_history(self, known: Verified[R], *, may_wait: bool) -> bool:
        """Whether the token names a generation that is not known after all was read that there was.

        That is known already if the store has confirmed a heartbeat since the token was first seen here.
        """
        # The age first: a thread that is held up in between must not take an older heartbeat for a newer one.
        age = self._clock.monotonic() - known.first_seen
        if self._replica.staleness >= age and known.first_seen > self._read_at:
            if not may_wait:
                raise MustReadError
            begun = self._clock.monotonic()
            self._replica.reach(None)
            self._read_at = begun
        return self._is_ahead(known)

    def _is_ahead(self, known: Verified[R]) -> bool:
        return self._revocations.is_ahead(known.token.generations)


def _unfit(known: Verified[R], request: VerifyRequest) -> Rejected | None:
    """What the call asks for and the token has not."""
    if not request.any_audience and known.audiences.isdisjoint(request.audiences):
        return _reject(RejectionReason.WRONG_AUDIENCE, "the token is for another audience")
    if request.required_scopes and not known.scopes.issuperset(request.required_scopes):
        return _reject(RejectionReason.INSUFFICIENT_SCOPE, "the token lacks a required scope")
    return _check_binding(known.token, request.certificate_sha256)


def _check_binding(token: AccessToken, shown: bytes) -> Rejected | None:
    """RFC 8705 section 3: a bound token is good only on a connection with that certificate."""
    bound = token.certificate_sha256
    if bound is None or (shown and hmac.compare_digest(bound, shown)):
        return None
    return _reject(RejectionReason.BINDING_MISMATCH, "the token is bound to another certificate")


def _reject(reason: RejectionReason, detail: str) -> Rejected:
    return Rejected(reason=reason, detail=detail)
