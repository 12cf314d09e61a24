"""Assertions: JWTs signed by others that authenticate a client, and the rules for their claims (RFC 7523).

The module parses no JWT and verifies no signature. There are two types, so that an unverified claim is never
taken for a verified one: only `UnverifiedAssertion.prove` returns an Assertion.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.issuers import TrustedIssuer
from identity_service.domain.ports import VerifyingKey
from identity_service.domain.secret import Secret

MAX_ASSERTION_LIFETIME: Final = timedelta(hours=1)
"""The longest time from now to `exp` in an assertion that a client signs itself, and in an ID-JAG. Libraries
choose up to an hour. Each works once, however long it lives, and the store remembers it that long."""

_CLIENT_TYPES: Final = frozenset({"", "jwt", "client-authentication+jwt"})
_FEDERATED_TYPES: Final = frozenset({"", "jwt", "jose"})
"""The `typ` values of RFC 7519 section 5.1 and JWT-SVID section 2.3. An access token has another type and
proves no client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """The claims of a JWT whose signature verified; issuer, times and audience are still to be checked."""

    type: str
    """The `typ` of the header in lower case, without `application/`; empty = the header has none."""
    issuer: str
    subject: str
    audience: str | tuple[str, ...]
    """The `aud` claim: a string, or a list of strings."""
    expire_time: datetime
    issue_time: datetime | None = None
    not_before: datetime | None = None
    token_id: str | None = None
    claims: Mapping[str, object] = field(default_factory=dict, repr=False)
    """All claims, unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedAssertion:
    """A well-formed JWT whose signature has not been verified."""

    algorithm: str
    key_id: str
    """Empty = the header has no `kid`."""
    assertion: Assertion
    message: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def prove(self, key: VerifyingKey) -> Assertion:
        """Return the claims if the signature is that of this key. Raises CredentialRefusedError otherwise."""
        if key.algorithm != self.algorithm:
            raise CredentialRefusedError("the assertion's key is for another algorithm")
        if not key.verify(self.message, self.signature):
            raise CredentialRefusedError("the assertion's signature does not verify")
        return self.assertion


class AssertionReader(Protocol):
    """A parser of JWTs signed by others, which also opens the keys that clients have registered."""

    def read(self, jwt: Secret) -> UnverifiedAssertion:
        """Parse a JWT strictly: its form, header and claim types.

        Raises CredentialRefusedError if it is malformed.
        """

    def open_key(self, jwk: str) -> VerifyingKey:
        """Return a public key with the one algorithm that its JWK names. Raises ValueError."""

    def spend(self, assertion: UnverifiedAssertion) -> None:
        """Take as long as a verification does, for an assertion whose key is unknown.

        This keeps the duration of a refusal from telling which clients exist.
        """


def check_client_assertion(
    assertion: Assertion, *, audiences: Collection[str], now: datetime, leeway: timedelta
) -> str:
    """Check that an assertion authenticates the client that is its subject, and return its `jti`.

    The rules are those of RFC 7523 section 3. `audiences` are the names of this service, of which its `aud`
    must be one. Raises CredentialRefusedError.
    """
    if assertion.type not in _CLIENT_TYPES:
        raise CredentialRefusedError("the assertion's typ is neither JWT nor client-authentication+jwt")
    if assertion.issuer != assertion.subject:
        raise CredentialRefusedError("the assertion's iss and sub differ")
    # A single string, compared as a whole: if a list were accepted, one of its other audiences could present
    # the assertion here as its own.
    if assertion.audience not in audiences:
        raise CredentialRefusedError("the assertion's aud is not exactly a name of this service")
    check_times(assertion, now, leeway)
    check_lifetime(assertion, now, leeway)
    return require_token_id(assertion)


def check_federated_token(
    assertion: Assertion,
    issuer: TrustedIssuer,
    *,
    audiences: Collection[str],
    now: datetime,
    leeway: timedelta,
) -> str | None:
    """Check that a token of this issuer may authenticate a client.

    If the issuer has no audiences of its own, they are `audiences`, the names of this service.

    Returns its `jti` if the issuer's tokens are single-use, else None. Raises CredentialRefusedError.
    """
    if assertion.type not in _FEDERATED_TYPES:
        raise CredentialRefusedError("the token's typ is neither JWT nor JOSE")
    accepted = frozenset(issuer.audiences or audiences)
    named = {assertion.audience} if isinstance(assertion.audience, str) else set(assertion.audience)
    if accepted.isdisjoint(named):
        raise CredentialRefusedError("the token's aud is none of the issuer's audiences")
    check_times(assertion, now, leeway)
    check_age(assertion, issuer, now, leeway)
    return require_token_id(assertion) if issuer.single_use else None


def check_times(assertion: Assertion, now: datetime, leeway: timedelta) -> None:
    """Raise CredentialRefusedError unless a JWT is valid now by its `exp`, `iat` and `nbf`."""
    if now >= assertion.expire_time + leeway:
        raise CredentialRefusedError("the JWT has expired")
    if any(time is not None and time > now + leeway for time in (assertion.issue_time, assertion.not_before)):
        raise CredentialRefusedError("the JWT is not valid yet: its iat or nbf is in the future")


def remembered_until(assertion: Assertion, leeway: timedelta) -> datetime:
    """Return the time until which the store must remember the use of a single-use JWT, by its own clock.

    A process accepts the JWT until a leeway after its `exp` by its own clock, which may be behind that of the
    store by another leeway.
    """
    return assertion.expire_time + 2 * leeway


def check_lifetime(assertion: Assertion, now: datetime, leeway: timedelta) -> None:
    """Raise CredentialRefusedError if a JWT outlives `MAX_ASSERTION_LIFETIME`."""
    if assertion.expire_time > now + MAX_ASSERTION_LIFETIME + leeway:
        raise CredentialRefusedError("the assertion's exp is more than an hour in the future")


def check_age(assertion: Assertion, issuer: TrustedIssuer, now: datetime, leeway: timedelta) -> None:
    """Raise CredentialRefusedError if a JWT is older than its issuer allows (`max_age`)."""
    if issuer.max_age is not None:
        if assertion.issue_time is None:
            raise CredentialRefusedError("the token has no iat, which max_age needs")
        if now - assertion.issue_time > issuer.max_age + leeway:
            raise CredentialRefusedError("the token is older than the issuer's max_age")


def require_token_id(assertion: Assertion) -> str:
    """Return the `jti` of a JWT. Raises CredentialRefusedError if it has none."""
    if assertion.token_id is None:
        raise CredentialRefusedError("the JWT has no jti, which a single-use JWT needs")
    return assertion.token_id
