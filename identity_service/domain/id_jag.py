"""ID-JAGs: JWTs by which a trusted issuer lets one client act for one of the issuer's users.

The rules are those of draft-ietf-oauth-identity-assertion-authz-grant, section "Access Token Request", and
RFC 7523 section 3. The module parses no JWT and verifies no signature.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from identity_service.domain.assertions import (
    Assertion,
    check_age,
    check_lifetime,
    check_times,
    require_token_id,
)
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.grants import Entitlement
from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer

ID_JAG_TYPE: Final = "oauth-id-jag+jwt"
"""The `typ` of an ID-JAG, as `Assertion.type` has it."""

_NOT_ENFORCED: Final = ("act", "aud_tenant", "authorization_details", "cnf", "tenant")
"""Claims that restrict an ID-JAG in ways that this service cannot enforce: to an actor, to a tenant, to
detailed permissions, or to the holder of a key. Without such a claim the token would allow more than the
issuer has granted, so an ID-JAG that has one is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdJagLimits:
    """The most that an ID-JAG allows; None = it sets no limit of this kind."""

    audiences: frozenset[str] | None = None
    scopes: frozenset[str] | None = None

    def narrow(self, entitlement: Entitlement) -> Entitlement:
        """Return the part of an entitlement that is within these limits."""
        return Entitlement(
            audiences=_within(entitlement.audiences, self.audiences),
            scopes=_within(entitlement.scopes, self.scopes),
            max_lifetime=entitlement.max_lifetime,
        )


def check_id_jag(
    assertion: Assertion,
    issuer: TrustedIssuer,
    *,
    client_id: PrincipalId,
    audiences: Collection[str],
    now: datetime,
    leeway: timedelta,
) -> str:
    """Check that an ID-JAG of this issuer is for this service and this client, and return its `jti`.

    Args:
        assertion: the verified claims.
        issuer: the issuer whose key has signed them; only its `max_age` matters here.
        client_id: the client that presents the ID-JAG, and has authenticated itself.
        audiences: the issuer names of this service; `aud` must be one of them.
        now: the time.
        leeway: the largest difference between the clock of the issuer and this one.

    Raises CredentialRefusedError.
    """
    if assertion.type != ID_JAG_TYPE:
        raise CredentialRefusedError(f"its typ is not {ID_JAG_TYPE}")
    audience = assertion.audience
    named = audience[0] if isinstance(audience, tuple) and len(audience) == 1 else audience
    if named not in audiences:
        raise CredentialRefusedError("its aud is not exactly the issuer name of this service")
    # The exact type: a list with the client's id, for example, would name other clients too.
    if assertion.claims.get("client_id") != client_id:
        raise CredentialRefusedError("its client_id is not the client that presents it")
    for name in _NOT_ENFORCED:
        if name in assertion.claims:
            raise CredentialRefusedError(f"it has the claim {name}, which this service cannot enforce")
    if assertion.issue_time is None:
        raise CredentialRefusedError("it has no iat")
    check_times(assertion, now, leeway)
    check_lifetime(assertion, now, leeway)
    check_age(assertion, issuer, now, leeway)
    return require_token_id(assertion)


def limits_of(assertion: Assertion) -> IdJagLimits:
    """Return the limits that an ID-JAG sets by its claims `resource` and `scope`.

    Raises CredentialRefusedError if one of them is malformed.
    """
    claims = assertion.claims
    return IdJagLimits(
        audiences=_read_resource(claims["resource"]) if "resource" in claims else None,
        scopes=_read_scope(claims["scope"]) if "scope" in claims else None,
    )


def _read_resource(value: object) -> frozenset[str]:
    """Return the resources in a claim: a text, or a list of texts (RFC 8707 section 2)."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str) and each for each in values):
        raise CredentialRefusedError("its resource must be a text or a list of texts")
    return frozenset(values)


def _read_scope(value: object) -> frozenset[str]:
    """Return the scopes in a claim, which are separated by single spaces (RFC 6749 section 3.3)."""
    scopes = value.split(" ") if isinstance(value, str) else []
    if not all(scopes) or not scopes:
        raise CredentialRefusedError("its scope must be a text of scopes separated by single spaces")
    return frozenset(scopes)


def _within(held: frozenset[str], limit: frozenset[str] | None) -> frozenset[str]:
    return held if limit is None else held & limit
