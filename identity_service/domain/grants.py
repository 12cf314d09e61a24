"""The grant policy: decides which audiences, scopes and lifetime a principal gets.

The module stores nothing.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from identity_service.domain.errors import (
    AudienceNotAllowedError,
    FieldViolation,
    GrantNotAllowedError,
    InvalidRequestError,
    LifetimeOutOfBoundsError,
    ScopeNotAllowedError,
    UnknownScopeError,
)
from identity_service.domain.principals import ANY, Client, Grant, User

SCOPE_VERIFY: Final = "identity.verify"
SCOPE_REVOKE: Final = "identity.revoke"
SCOPE_ADMIN: Final = "identity.admin"
OWN_SCOPES: Final = frozenset({SCOPE_VERIFY, SCOPE_REVOKE, SCOPE_ADMIN})
OWN_PREFIX: Final = "identity."
"""The prefix of the scopes of this service: only the three above exist, and none is granted by default."""

MAX_AUDIENCES: Final = 16
MAX_SCOPES: Final = 100
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")
_AUDIENCE: Final = re.compile(r"[\x21-\x7e]{1,256}")
_AUDIENCE_RULE: Final = "must be 1 to 256 visible ASCII characters without spaces"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRequest:
    """The audiences, scopes and lifetime that were requested; empty or None = the default."""

    audiences: Sequence[str] = ()
    scopes: Sequence[str] = ()
    lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LifetimeBounds:
    """The default and the maximum lifetime of access tokens, as the service is configured."""

    default: timedelta = timedelta(minutes=15)
    maximum: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """The most that a principal may be granted."""

    audiences: frozenset[str]
    scopes: frozenset[str]
    max_lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The content of the new token; each list is in the order of the request, without duplicates."""

    audiences: tuple[str, ...]
    scopes: tuple[str, ...]
    lifetime: timedelta


def require_grant(client: Client, grant: Grant) -> None:
    """Raise GrantNotAllowedError if the client may not get tokens by this grant."""
    if grant not in client.grants:
        raise GrantNotAllowedError(f"the client is not allowed the grant {grant.value}")


def client_entitlement(client: Client) -> Entitlement:
    """Return the audiences, scopes and lifetime that a client may have for itself.

    `ANY` concerns only the users who sign in through the client.
    """
    return Entitlement(
        audiences=client.audiences - {ANY}, scopes=client.scopes - {ANY}, max_lifetime=client.max_lifetime
    )


def user_entitlement(client: Client, user: User) -> Entitlement:
    """Return the audiences and scopes that a user may have through this client: those that both may have."""
    return Entitlement(
        audiences=_both(client.audiences, user.audiences),
        scopes=_both(client.scopes, user.scopes),
        max_lifetime=client.max_lifetime,
    )


def _both(of_client: frozenset[str], of_user: frozenset[str]) -> frozenset[str]:
    return (of_user if ANY in of_client else of_client & of_user) - {ANY}


def check_names(request: GrantRequest, known_scopes: frozenset[str] = frozenset()) -> None:
    """Check that the names in the request are valid.

    Args:
        request: the names that were requested.
        known_scopes: the scopes of this deployment; empty = any well-formed scope.

    Raises:
        InvalidRequestError: too many names, or an audience that is not visible ASCII text.
        UnknownScopeError: a scope is malformed (RFC 6749 section 3.3) or unknown to this deployment.
    """
    violations = [*_too_many("audiences", request.audiences, MAX_AUDIENCES)]
    violations += _too_many("scopes", request.scopes, MAX_SCOPES)
    violations += [
        FieldViolation(field=f"audiences[{index}]", description=_AUDIENCE_RULE)
        for index, audience in enumerate(request.audiences[:MAX_AUDIENCES])
        if not is_audience(audience)
    ]
    if violations:
        raise InvalidRequestError(*violations)
    unknown = [
        FieldViolation(field=f"scopes[{index}]", description="is not a scope that this service knows")
        for index, scope in enumerate(request.scopes)
        if not is_known_scope(scope, known_scopes)
    ]
    if unknown:
        raise UnknownScopeError(*unknown)


def is_known_scope(scope: str, known_scopes: frozenset[str] = frozenset()) -> bool:
    """Return whether a scope is well-formed (RFC 6749 section 3.3) and known to this deployment."""
    if scope.startswith(OWN_PREFIX):
        return scope in OWN_SCOPES
    return _SCOPE.fullmatch(scope) is not None and (not known_scopes or scope in known_scopes)


def is_audience(text: str) -> bool:
    """Return whether a text is 1 to 256 visible ASCII characters."""
    return _AUDIENCE.fullmatch(text) is not None


def _too_many(field: str, values: Sequence[str], limit: int) -> Iterable[FieldViolation]:
    if len(values) > limit:
        yield FieldViolation(
            field=field, description=f"has {len(values)} entries; at most {limit} are allowed"
        )


def decide_grant(entitlement: Entitlement, request: GrantRequest, bounds: LifetimeBounds) -> Granted:
    """Return the part of its request that a principal is granted; `check_names` must have passed.

    Raises:
        InvalidRequestError: no audience was named, and the principal does not have exactly one.
        LifetimeOutOfBoundsError: less than 1 s, or over the service's or the client's maximum.
        AudienceNotAllowedError, ScopeNotAllowedError: the request exceeds what the principal may have.
    """
    return Granted(
        audiences=_decide_audiences(entitlement, request),
        scopes=_decide_scopes(entitlement, request),
        lifetime=_decide_lifetime(entitlement, request, bounds),
    )


def _decide_audiences(entitlement: Entitlement, request: GrantRequest) -> tuple[str, ...]:
    audiences = tuple(dict.fromkeys(request.audiences))
    if not audiences:
        if len(entitlement.audiences) != 1:
            raise InvalidRequestError.of("audiences", "must name at least one audience: there is no default")
        return tuple(entitlement.audiences)
    if not entitlement.audiences.issuperset(audiences):
        raise AudienceNotAllowedError("the principal may not have a token for one of these audiences")
    return audiences


def _decide_scopes(entitlement: Entitlement, request: GrantRequest) -> tuple[str, ...]:
    scopes = tuple(dict.fromkeys(request.scopes))
    if not scopes:
        return tuple(sorted(s for s in entitlement.scopes if not s.startswith(OWN_PREFIX)))[:MAX_SCOPES]
    if not entitlement.scopes.issuperset(scopes):
        raise ScopeNotAllowedError("the principal may not have one of these scopes")
    return scopes


def _decide_lifetime(entitlement: Entitlement, request: GrantRequest, bounds: LifetimeBounds) -> timedelta:
    of_client = entitlement.max_lifetime
    maximum = bounds.maximum if of_client is None else min(bounds.maximum, of_client)
    lifetime = min(bounds.default, maximum) if request.lifetime is None else request.lifetime
    if not timedelta(seconds=1) <= lifetime <= maximum:
        raise LifetimeOutOfBoundsError.of(
            "lifetime", f"must be from 1 second to {int(maximum.total_seconds())} seconds"
        )
    return timedelta(seconds=int(lifetime.total_seconds()))


def narrow(field: str, held: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """Return the requested scopes and audiences of a session; no request = all of them.

    Raises:
        ScopeNotAllowedError, AudienceNotAllowedError: the request exceeds what the session holds.
    """
    if not asked:
        return tuple(held)
    chosen = tuple(dict.fromkeys(asked))
    if not set(held).issuperset(chosen):
        error = ScopeNotAllowedError if field == "scopes" else AudienceNotAllowedError
        raise error(f"the session does not hold one of these {field}")
    return chosen
