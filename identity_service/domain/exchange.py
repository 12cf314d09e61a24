"""Token exchange (RFC 8693): decides which client may act for which subject, and the claims of the new token.

The module verifies and signs nothing. Every exchange narrows: the audiences to those that the client may
request, the scopes to those of the subject token that the client may have, the lifetime to what the subject
token has left. The chain of actors only grows.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from identity_service.domain.errors import ExchangeNotAllowedError, InvalidRequestError
from identity_service.domain.grants import (
    Entitlement,
    GrantRequest,
    LifetimeBounds,
    decide_grant,
    require_grant,
)
from identity_service.domain.ids import EVERYONE, PrincipalId
from identity_service.domain.log import NEVER_RAISED, Generation
from identity_service.domain.principals import ANY, Client, Grant
from identity_service.domain.tokens import MAX_ACTORS, MAX_EXTRA_CLAIMS_BYTES, AccessToken, Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeCase:
    """The facts on which an exchange is decided. All tokens in it have verified."""

    subject_token: AccessToken
    actor_token: AccessToken | None = None
    client: Client
    """The authenticated client that requests the exchange."""
    client_subject: PrincipalId
    """The subject of the client's own tokens: the actor, if no actor token names another."""
    generations: Mapping[PrincipalId, Generation] = field(default_factory=dict)
    """The generations of the client, read before it was authenticated."""

    @property
    def actor(self) -> Actor:
        """Return the party that will act for the subject."""
        token = self.actor_token
        if token is None:
            return Actor(subject=self.client_subject, client_id=self.client.client_id)
        return Actor(subject=token.subject, client_id=token.client_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """The claims of the new token that an exchange decides; the others are those of the subject token."""

    audiences: tuple[str, ...]
    scopes: tuple[str, ...]
    actors: tuple[Actor, ...]
    generations: Mapping[PrincipalId, Generation]
    expire_time: datetime
    may_act: Actor | None
    claims: Mapping[str, object]


def decide_exchange(
    case: ExchangeCase,
    request: GrantRequest,
    lifetimes: LifetimeBounds,
    issue_time: datetime,
    *,
    claims: Mapping[str, object],
    may_act: PrincipalId | None = None,
) -> Exchanged:
    """Return the claims of the new token.

    Raises:
        GrantNotAllowedError, ExchangeNotAllowedError: this client may not act for this subject.
        AudienceNotAllowedError, ScopeNotAllowedError: more was requested than client and subject token allow.
        InvalidRequestError: a claim is already in the subject token, or the claims are too large.
    """
    subject_token = case.subject_token
    _require_permission(case)
    granted = decide_grant(_entitlement(case.client, subject_token), request, lifetimes)
    return Exchanged(
        audiences=granted.audiences,
        scopes=granted.scopes,
        actors=_chain(case),
        generations=_generations(case),
        expire_time=min(issue_time + granted.lifetime, subject_token.expire_time),
        may_act=_kept_may_act(subject_token.may_act, may_act),
        claims=_both(subject_token.claims, claims),
    )


def _require_permission(case: ExchangeCase) -> None:
    client, limit = case.client, case.subject_token.may_act
    require_grant(client, Grant.TOKEN_EXCHANGE)
    if not _receives(client, case.subject_token):
        raise ExchangeNotAllowedError("the client may exchange no tokens for the subject token's audience")
    own = case.actor_token is None or case.actor_token.client_id == client.client_id
    if case.actor_token is not None and not own and not _receives(client, case.actor_token):
        raise ExchangeNotAllowedError("the actor token is neither the client's own nor for an audience of it")
    # A client that merely received a token of the permitted actor, and presents it as actor token, is not
    # that actor.
    if limit is not None and not (own and _matches(case.actor, limit)):
        raise ExchangeNotAllowedError("the subject token permits only another actor (may_act)")


def _matches(actor: Actor, limit: Actor) -> bool:
    return actor.subject == limit.subject and limit.client_id in (None, actor.client_id)


def _receives(client: Client, token: AccessToken) -> bool:
    """Return whether the client is a recipient of a token: a service may pass on tokens meant for it."""
    return ANY in client.exchange_audiences or not client.exchange_audiences.isdisjoint(token.audiences)


def _entitlement(client: Client, subject_token: AccessToken) -> Entitlement:
    """Return the audiences and scopes that the client may request.

    `ANY` stands for the audiences or scopes of the subject token; no scope beyond those is allowed.
    """
    audiences, scopes = frozenset(subject_token.audiences), frozenset(subject_token.scopes)
    return Entitlement(
        audiences=client.audiences - {ANY} | (audiences if ANY in client.audiences else frozenset()),
        scopes=scopes if ANY in client.scopes else scopes & client.scopes,
        max_lifetime=client.max_lifetime,
    )


def _chain(case: ExchangeCase) -> tuple[Actor, ...]:
    """Return the new chain of actors (section 4.1); no actor is ever dropped.

    It is the actor, then the actors of the actor token, then those of the subject token.
    """
    behind = case.actor_token.actors if case.actor_token is not None else ()
    chain = (case.actor, *behind, *case.subject_token.actors)
    if len(chain) > MAX_ACTORS:
        raise ExchangeNotAllowedError(f"the chain of actors would be longer than {MAX_ACTORS}")
    return chain


def _generations(case: ExchangeCase) -> dict[PrincipalId, Generation]:
    """Return the generations of the new token: for each principal the oldest that any source names.

    Principals that the new token does not name elsewhere get an entry even if they were never raised:
    otherwise raising them would not revoke the token.
    """
    tokens = [case.subject_token, *((case.actor_token,) if case.actor_token is not None else ())]
    held: dict[PrincipalId, Generation | None] = {}
    for token in tokens:
        for principal in token.principals:
            found = token.generations.get(principal)
            held[principal] = _older(held[principal], found) if principal in held else found
    named = {EVERYONE, case.subject_token.subject, case.client.client_id}
    for actor in _chain(case):
        named |= {actor.subject, *((actor.client_id,) if actor.client_id is not None else ())}
    for principal in named:
        held.setdefault(principal, case.generations.get(principal))
    return {
        principal: generation or NEVER_RAISED
        for principal, generation in held.items()
        if generation is not None or principal not in named
    }


def _older(one: Generation | None, other: Generation | None) -> Generation | None:
    if one is None or other is None:
        return None
    return one if one.number <= other.number else other


def _kept_may_act(given: Actor | None, wanted: PrincipalId | None) -> Actor | None:
    """Return the `may_act` of the new token: that of the subject token, else the requested one.

    Raises ExchangeNotAllowedError if both are given and differ.
    """
    if given is None or wanted is None:
        return given if wanted is None else Actor(subject=wanted)
    if given != Actor(subject=wanted):
        raise ExchangeNotAllowedError("the subject token already permits another actor (may_act)")
    return given


def _both(of_subject: Mapping[str, object], of_request: Mapping[str, object]) -> Mapping[str, object]:
    taken = sorted(of_subject.keys() & of_request.keys())
    if taken:
        raise InvalidRequestError.of(
            f"claims.{taken[0]}", "is a claim of the subject token, and cannot be replaced"
        )
    claims = {**of_subject, **of_request}
    if len(json.dumps(claims, ensure_ascii=False).encode()) > MAX_EXTRA_CLAIMS_BYTES:
        raise InvalidRequestError.of(
            "claims", f"must have at most {MAX_EXTRA_CLAIMS_BYTES} bytes as JSON with the subject token's"
        )
    return claims
