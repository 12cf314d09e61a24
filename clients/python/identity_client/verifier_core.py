"""The base class of the local verifiers: state, cache and checks, without a thread or an event loop.

`LocalVerifier` follows the service in a thread, and passes each message of the watch to `_apply`.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import blake2b
from typing import Final

from identity_client.access_tokens import (
    RejectedError,
    SignedToken,
    UnknownKeyError,
    UntrustedIssuerError,
    key_principal,
    read,
)
from identity_client.decryption import DecryptionKey, NotOpenableError
from identity_client.errors import IdentityError
from identity_client.events import Listeners
from identity_client.freshness import (
    STEP,
    ClockSetBackError,
    ClockSkewedError,
    Freshness,
    LateError,
    steady,
    wall,
)
from identity_client.trust import Revocation, WatchEvent
from identity_client.trust_state import LOST, RETIRED, TrustState
from identity_client.values import Outcome, Rejected, Verified
from identity_shared.lru_cache import LruCache

_log: Final = logging.getLogger("identity_client.verifier")
_TOKEN_BYTES: Final = 4000
"""The approximate memory of one cache entry in bytes, without the text of the token."""


class NotFreshError(Exception):
    """No token can be verified, because the state from the service is incomplete or too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenNames:
    """The names by which a token can be revoked, and the time at which it expires."""

    token_id: str
    """The `jti`."""
    session_id: str
    """The `sid`; empty for tokens of clients."""
    principals: frozenset[str]
    """The principals whose raised generation revokes the token: the subject, the client, the actors, `*` for
    the whole service, and `*key:<kid>` for the key that signed it."""
    valid_until: float
    """The time from which the token is refused as expired (`exp` and the leeway), in Unix seconds."""


class VerifierCore:
    """The base class of the verifiers that answer like `IdentityClient.verify` without a call."""

    def __init__(
        self,
        *,
        issuer: str | Collection[str],
        decryption_keys: Iterable[DecryptionKey],
        max_staleness: timedelta,
        leeway: timedelta,
        cache_bytes: int,
    ) -> None:
        """Create a verifier that knows nothing yet; the arguments are those of `LocalVerifier`."""
        self._issuers = frozenset((issuer,) if isinstance(issuer, str) else issuer)
        if not self._issuers:
            raise ValueError("issuer must name the service's issuer, or several")
        self._issuer_warned = False
        """True if the log has named an issuer that the service uses, and this verifier does not accept."""
        self._decryption_keys = tuple(decryption_keys)
        self._leeway = leeway.total_seconds()
        self._fresh = Freshness(max_staleness=max_staleness, leeway=leeway)
        self._state = TrustState()
        self._cache: LruCache[bytes, SignedToken] = LruCache(cache_bytes)
        self._trouble: Exception | None = None
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

    def verify(
        self,
        token: str,
        *,
        audiences: Collection[str] = (),
        any_audience: bool = False,
        required_scopes: Collection[str] = (),
        certificate_sha256: bytes = b"",
        dpop_key_sha256: bytes = b"",
        max_extra_staleness: timedelta = timedelta(0),
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
            max_extra_staleness: the time after `max_staleness` for which the token is verified all the same,
                by the revocations that are known here. It does not help while the state is incomplete or the
                clock of this machine is wrong.

        Raises NotFreshError if the service has confirmed its state too long ago, or not yet; ValueError if
        neither audiences nor `any_audience` is given; TypeError if one text is given in place of a list.
        """
        state, fresh = self._state, self._fresh
        now, steady = _now(), _steady()
        if not (steady <= fresh.until and -STEP <= now - steady - fresh.offset <= STEP and state.complete):
            self._require_fresh(max_extra_staleness)
            now = _now()
        # Read before the token is checked: the revision is never newer than the state that was checked.
        revision = state.revision
        try:
            known = self._find(token)
        except RejectedError as error:
            return Rejected(reason=error.reason, detail=str(error), revision=revision)
        ended = self._why_ended(known, now)
        if ended is not None:
            return ended
        refused = self._check_requirements(
            known.claims, audiences, any_audience, required_scopes, certificate_sha256, dpop_key_sha256
        )
        if refused is not None:
            return refused
        verified = known.claims
        if verified.revision is not revision:
            verified = known.claims = replace(verified, revision=revision)
        return verified

    def names(self, token: str) -> TokenNames:
        """Return the names by which a token can be revoked; call it for a token that `verify` has accepted.

        Raises ValueError if the token's signature does not verify.
        """
        known = self._find(token)
        return TokenNames(
            token_id=known.claims.token_id,
            session_id=known.claims.session_id,
            principals=frozenset(known.principals),
            valid_until=known.valid_until + self._leeway,
        )

    def why_ended(self, token: str) -> Rejected | None:
        """Return why a token that `verify` accepted is refused by now, or None if nothing here refuses it.

        It has expired, or it or its key was revoked. A revocation that is known counts however old the last
        confirmation of the service is, so this raises no NotFreshError; None therefore does not mean that the
        token is valid: only `verify` says so.
        """
        try:
            return self._why_ended(self._find(token), _now())
        except RejectedError as error:
            return self._rejected(error.reason, str(error))
        except NotFreshError:
            return None

    def _why_ended(self, token: SignedToken, now: float) -> Rejected | None:
        if token.key_id not in self._state.keys:
            return self._reject_unknown_key(token.key_id)
        if not token.valid_from - self._leeway <= now < token.valid_until + self._leeway:
            return self._reject_by_time(token, now)
        why = self._state.why_revoked(token)
        if why is None and token.generations:
            why = self._why_lost(token)
        return self._rejected("REVOKED", why) if why is not None else None

    def _check_requirements(
        self,
        claims: Verified,
        audiences: Collection[str],
        any_audience: bool,
        required_scopes: Collection[str],
        certificate_sha256: bytes,
        dpop_key_sha256: bytes,
    ) -> Rejected | None:
        """Return a Rejected if the token lacks an audience, scope or binding that the caller requires."""
        if isinstance(audiences, str) or isinstance(required_scopes, str):
            raise TypeError("audiences and required_scopes must be lists of texts, not one text")
        if not any_audience:
            for audience in audiences:
                if audience in claims.audiences:
                    break
            else:
                if not audiences:
                    raise ValueError(
                        "audiences must name this verifier's audience, or any_audience must be true"
                    )
                return self._rejected("WRONG_AUDIENCE", "the token is for another audience")
        for scope in required_scopes:
            if scope not in claims.scopes:
                return self._rejected("INSUFFICIENT_SCOPE", "the token lacks a required scope")
        bound = claims.certificate_sha256
        if bound and bound != certificate_sha256:
            return self._rejected("BINDING_MISMATCH", "the token is bound to another certificate")
        if claims.dpop_key_sha256 != dpop_key_sha256:
            return self._rejected("BINDING_MISMATCH", "the token is bound to another key, or to none")
        return None

    def _find(self, text: str) -> SignedToken:
        """Return the token from the cache, or verify its signature. Raises RejectedError."""
        digest = blake2b(text.encode("utf-8", "surrogatepass")).digest()
        token = self._cache.get(digest)
        if token is None:
            token = self._read(text)
            token.first_seen = _steady()
            self._cache.put(digest, token, _TOKEN_BYTES + len(text))
        return token

    def _read(self, text: str) -> SignedToken:
        if self._decryption_keys and text.count(".") == 4:
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
        except UntrustedIssuerError as error:
            self._warn_of_issuer(error.issuer)
            raise

    def _warn_of_issuer(self, issuer: str) -> None:
        # Only the service's own keys lead here, so the setting of the verifier is wrong, and no stranger
        # writes to the log.
        if not self._issuer_warned:
            self._issuer_warned = True
            _log.warning(
                "the service issues tokens as %r, but this verifier accepts only %s: set IDENTITY_ISSUER or "
                "the argument issuer to the service's setting `issuer`",
                *(issuer, ", ".join(sorted(map(repr, self._issuers)))),
            )

    def _reject_unknown_key(self, key_id: str) -> Rejected:
        if key_principal(key_id) in self._state.generations:
            return self._rejected("REVOKED", RETIRED)
        return self._rejected("UNKNOWN_KEY", "the token's key is no longer in use")

    def _reject_by_time(self, token: SignedToken, now: float) -> Rejected:
        if now < token.valid_from - self._leeway:
            return self._rejected("NOT_YET_VALID", "the token is not valid yet")
        return self._rejected("EXPIRED", "the token has expired")

    def _why_lost(self, token: SignedToken) -> str | None:
        """Return a sentence if the token names a generation that the service does not have.

        Raises NotFreshError until the service's store has confirmed a heartbeat after the token was first
        seen: until then the generation may still be on its way.
        """
        if not self._state.is_ahead(token):
            return None
        if self._fresh.confirmed <= token.first_seen:
            raise NotFreshError("the token names a generation that is not known here yet; try again")
        return LOST if self._state.is_ahead(token) else None

    def _rejected(self, reason: str, detail: str) -> Rejected:
        return Rejected(reason=reason, detail=detail, revision=self._state.revision)

    def _is_fresh(self, extra: timedelta = timedelta(0)) -> bool:
        # The state stays fresh while a stream is resumed, but not after the service has announced a snapshot:
        # some of the state may belong to another history, which was lost.
        until = self._fresh.until + extra.total_seconds()
        return _steady() <= until and self._state.complete and self._fresh.is_steady()

    def _require_fresh(self, extra: timedelta = timedelta(0)) -> None:
        if self._is_fresh(extra):
            return
        why = f": {self._trouble}" if self._trouble is not None else ""
        if not self._state.complete:
            raise NotFreshError(f"the revocations are not completely known yet{why}")
        if _steady() <= self._fresh.until:
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


_steady: Final = steady
_now: Final = wall
