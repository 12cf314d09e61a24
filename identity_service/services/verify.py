"""Verify: says whether a token is good. Answers from memory; no I/O but where the caller asks for it.

The cache remembers signatures, not answers: expiry, audience, scope, binding, key and revocation are
checked on every call.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from identity_service.domain.log import Revision
from identity_service.domain.ports import Clock, KeySource, ReplicaView, TokenCodec
from identity_service.domain.tokens import MAX_TOKEN_CHARS, AccessToken, Rejected, RejectionReason
from identity_service.services.token_cache import RecentCache

R = TypeVar("R")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified(Generic[R]):
    """The token is good."""

    token: AccessToken
    rendered: R
    """The token as the door that asks wants it, made once for each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remembered(Generic[R]):
    """A token whose signature verified, with what every call compares."""

    verified: Verified[R]
    key_id: str
    valid_from: datetime
    valid_until: datetime
    audiences: frozenset[str]
    scopes: frozenset[str]


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
        cache_entries: int,
        serve_stale: bool = False,
    ) -> None:
        self._codec = codec
        self._keys = keys
        self._replica = replica
        self._clock = clock
        self._render = render
        self._leeway = leeway
        self._cache: RecentCache[bytes, _Remembered[R]] = RecentCache(cache_entries)
        self._require = replica.require_ready if serve_stale else replica.require_fresh

    def prepare(self, *requests: VerifyRequest) -> None:
        """Catch up as far as these requests ask for: one round trip for all of them, or none.

        Raises RevisionNotReachedError, ServerBusyError, StoreUnavailableError.
        """
        for request in requests:
            if request.strong:
                self._replica.reach(None)
                break
        for request in requests:
            if request.at_least_revision is not None:
                self._replica.reach(request.at_least_revision)

    def verify(self, request: VerifyRequest) -> Verified[R] | Rejected:
        """Whether the token is good now, as far as the log is known here; `prepare` has been called.

        Raises UnavailableError when too little is known to answer; never for what a token contains.
        """
        self._require()
        known = self._recall(request.token)
        if isinstance(known, Rejected):
            return known
        return self._check(known, request) or known.verified

    def _recall(self, text: str) -> _Remembered[R] | Rejected:
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
        known = _Remembered(
            verified=Verified(token=token, rendered=self._render(token)),
            key_id=token.key_id or "",
            valid_from=max(token.issue_time, token.not_before or token.issue_time) - self._leeway,
            valid_until=token.expire_time + self._leeway,
            audiences=frozenset(token.audiences),
            scopes=frozenset(token.scopes),
        )
        self._cache.put(digest, known)
        return known

    def _check(self, known: _Remembered[R], request: VerifyRequest) -> Rejected | None:
        """Everything that may have changed since the signature was verified, or that the call asks for."""
        token, now = known.verified.token, self._clock.now()
        if self._keys.verifying(known.key_id) is None:
            return _reject(RejectionReason.UNKNOWN_KEY, "the token's key is no longer in use")
        if now >= known.valid_until:
            return _reject(RejectionReason.EXPIRED, "the token has expired")
        if now < known.valid_from:
            return _reject(RejectionReason.NOT_YET_VALID, "the token is not valid yet")
        why = self._replica.revocations.why_revoked(token)
        if why is not None:
            return _reject(RejectionReason.REVOKED, why)
        if not request.any_audience and known.audiences.isdisjoint(request.audiences):
            return _reject(RejectionReason.WRONG_AUDIENCE, "the token is for another audience")
        if request.required_scopes and not known.scopes.issuperset(request.required_scopes):
            return _reject(RejectionReason.INSUFFICIENT_SCOPE, "the token lacks a required scope")
        return _check_binding(token, request.certificate_sha256)


def _check_binding(token: AccessToken, shown: bytes) -> Rejected | None:
    """RFC 8705 section 3: a bound token is good only on a connection with that certificate."""
    bound = token.certificate_sha256
    if bound is None or (shown and hmac.compare_digest(bound, shown)):
        return None
    return _reject(RejectionReason.BINDING_MISMATCH, "the token is bound to another certificate")


def _reject(reason: RejectionReason, detail: str) -> Rejected:
    return Rejected(reason=reason, detail=detail)
