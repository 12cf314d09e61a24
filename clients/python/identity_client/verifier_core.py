"""The base class of the local verifiers: answers about tokens by the state that its base class follows."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from identity_client.access_tokens import (
    RejectedError,
    SignedToken,
    UnknownKeyError,
    UntrustedIssuerError,
    key_principal,
    read,
)
from identity_client.decryption import DecryptionKey, opened
from identity_client.freshness import STEP
from identity_client.trust_follower import NotFreshError, TrustFollower
from identity_client.trust_state import LOST, RETIRED
from identity_client.values import Outcome, Rejected, Verified
from identity_shared.lru_cache import LruCache, weight_of_json

_log: Final = logging.getLogger("identity_client.verifier")
_TOKEN_BYTES: Final = 4000
"""The approximate memory of one cache entry in bytes, without the text of the token and its extra claims."""


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


class VerifierCore(TrustFollower):
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
        super().__init__(max_staleness=max_staleness, leeway=leeway)
        self._issuers = frozenset((issuer,) if isinstance(issuer, str) else issuer)
        if not self._issuers:
            raise ValueError("issuer must name the service's issuer, or several")
        self._issuer_warned = False
        """True if the log has named an issuer that the service uses, and this verifier does not accept."""
        self._decryption_keys = tuple(decryption_keys)
        self._leeway = leeway.total_seconds()
        self._cache: LruCache[str, SignedToken] = LruCache(cache_bytes)

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
        now, steady = fresh.wall(), fresh.steady()
        if not (steady <= fresh.until and -STEP <= now - steady - fresh.offset <= STEP and state.complete):
            self._require_fresh(max_extra_staleness)
            now = fresh.wall()
        # Read before the token is checked: the revision is never newer than the state that was checked.
        revision = state.revision
        try:
            known = self._cache.get(token) or self._find(token)
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
            return self._why_ended(self._find(token), self._fresh.wall())
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
        token = self._cache.get(text)
        if token is None:
            token = self._read(text)
            token.first_seen = self._fresh.steady()
            self._cache.put(text, token, _TOKEN_BYTES + len(text) + weight_of_json(token.claims.claims))
        return token

    def _read(self, text: str) -> SignedToken:
        text = opened(text, self._decryption_keys)  # a token inside that is encrypted again stays so
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
