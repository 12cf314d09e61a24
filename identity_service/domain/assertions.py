"""Assertions: JWTs of others that prove a client here, and what one must say. Reads and verifies none.

Two types, so that nobody takes a claim for proven: only `UnverifiedAssertion.prove` makes an Assertion.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from identity_service.domain.errors import CredentialRefusedError
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.ports import VerifyingKey
from identity_service.domain.secret import Secret

MAX_ASSERTION_LIFETIME: Final = timedelta(minutes=5)
"""From now to `exp`, of what a client signs itself: it can always sign another one."""

_CLIENT_TYPES: Final = frozenset({"", "jwt", "client-authentication+jwt"})
_FEDERATED_TYPES: Final = frozenset({"", "jwt", "jose"})
"""RFC 7519 section 5.1, JWT-SVID section 2.3. An access token has another type and proves no client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """What a JWT says whose signature verified, no more: who signed, when and for whom is to be checked."""

    type: str
    """Lower case, without `application/`; empty = none was named."""
    issuer: str
    subject: str
    audience: str | tuple[str, ...]
    """One text, or a list."""
    expire_time: datetime
    issue_time: datetime | None = None
    not_before: datetime | None = None
    token_id: str | None = None
    claims: Mapping[str, object] = field(default_factory=dict, repr=False)
    """All of them, as they stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedAssertion:
    """A JWT of the right form. Anybody could have written it."""

    algorithm: str
    key_id: str
    says: Assertion
    message: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def prove(self, key: VerifyingKey) -> Assertion:
        """What it says, once its signature is that of this key. Raises CredentialRefusedError."""
        if key.algorithm != self.algorithm:
            raise CredentialRefusedError("the assertion's key is for another algorithm")
        if not key.verify(self.message, self.signature):
            raise CredentialRefusedError("the assertion's signature does not verify")
        return self.says


class AssertionReader(Protocol):
    """Reads JWTs of others, and opens the keys that clients have registered."""

    def read(self, jwt: Secret) -> UnverifiedAssertion:
        """Form, header and types, all strictly. Raises CredentialRefusedError for anything else."""

    def open_key(self, jwk: str) -> VerifyingKey:
        """A public key with the one algorithm that it names. Raises ValueError."""

    def spend(self, assertion: UnverifiedAssertion) -> None:
        """Take as long as a verification does: for an assertion that no key is known for."""


def check_client_assertion(assertion: Assertion, *, audience: str, now: datetime, leeway: timedelta) -> str:
    """Whether it proves its subject to be the client of that id (RFC 7523 section 3); returns its `jti`.

    Raises CredentialRefusedError.
    """
    if assertion.type not in _CLIENT_TYPES:
        raise CredentialRefusedError("the assertion's typ is neither JWT nor client-authentication+jwt")
    if assertion.issuer != assertion.subject:
        raise CredentialRefusedError("the assertion's iss and sub differ")
    # One text, compared as a whole: with a list, one of the others could show it here as its own.
    if assertion.audience != audience:
        raise CredentialRefusedError("the assertion's aud is not the one name of this service")
    _check_times(assertion, now, leeway)
    if assertion.expire_time > now + MAX_ASSERTION_LIFETIME + leeway:
        raise CredentialRefusedError("the assertion's exp is more than 5 minutes ahead")
    return _require_token_id(assertion)


def check_federated_token(
    assertion: Assertion, issuer: TrustedIssuer, *, audience: str, now: datetime, leeway: timedelta
) -> str | None:
    """Whether a token of this issuer may prove a client; returns its `jti` where it does so once only.

    Raises CredentialRefusedError.
    """
    if assertion.type not in _FEDERATED_TYPES:
        raise CredentialRefusedError("the token's typ is neither JWT nor JOSE")
    accepted = frozenset(issuer.audiences or (audience,))
    named = {assertion.audience} if isinstance(assertion.audience, str) else set(assertion.audience)
    if accepted.isdisjoint(named):
        raise CredentialRefusedError("the token's aud is none of the issuer's audiences")
    _check_times(assertion, now, leeway)
    if issuer.max_age is not None:
        if assertion.issue_time is None:
            raise CredentialRefusedError("the token has no iat, which max_age counts from")
        if now - assertion.issue_time > issuer.max_age + leeway:
            raise CredentialRefusedError("the token is older than the issuer's max_age")
    return _require_token_id(assertion) if issuer.single_use else None


def _check_times(assertion: Assertion, now: datetime, leeway: timedelta) -> None:
    if now >= assertion.expire_time + leeway:
        raise CredentialRefusedError("it has expired")
    if any(time is not None and time > now + leeway for time in (assertion.issue_time, assertion.not_before)):
        raise CredentialRefusedError("it is not valid yet: iat or nbf lies ahead")


def _require_token_id(assertion: Assertion) -> str:
    if assertion.token_id is None:
        raise CredentialRefusedError("it has no jti, and may be used once only")
    return assertion.token_id
