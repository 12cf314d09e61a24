"""Token exchange (RFC 8693): who may act for whom, and what the token then says. Verifies and signs nothing.

Every exchange narrows: audiences to what the client may ask for, scopes to those of the subject token that
the client may have, time to what the subject token has left. The chain of actors only grows.
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
    """What is known when somebody wants to exchange a token. All tokens in it have verified."""

    subject_token: AccessToken
    actor_token: AccessToken | None = None
    client: Client
    """Who asks, proven."""
    client_subject: PrincipalId
    """The subject of the client's own tokens: the actor, where no actor token names another."""
    generations: Mapping[PrincipalId, Generation] = field(default_factory=dict)
    """Those of the client, from before it was proven."""

    @property
    def actor(self) -> Actor:
        """Who will act for the subject."""
        token = self.actor_token
        if token is None:
            return Actor(subject=self.client_subject, client_id=self.client.client_id)
        return Actor(subject=token.subject, client_id=token.client_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """What the new token says beside what it takes over from the subject token."""

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
    """What comes of an exchange.

    Raises:
        GrantNotAllowedError, ExchangeNotAllowedError: this client may not act for this subject.
        AudienceNotAllowedError, ScopeNotAllowedError: more was asked for than both may have.
        InvalidRequestError: claims that the subject token has already, or too many.
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
    # Whoever was sent a token of the one that may act, and shows it as actor token, is not that one.
    if limit is not None and not (own and _is(case.actor, limit)):
        raise ExchangeNotAllowedError("the subject token says that another alone may act (may_act)")


def _is(actor: Actor, limit: Actor) -> bool:
    return actor.subject == limit.subject and limit.client_id in (None, actor.client_id)


def _receives(client: Client, token: AccessToken) -> bool:
    """Whether a token came to this client rightly: a service may pass on what was meant for it."""
    return ANY in client.exchange_audiences or not client.exchange_audiences.isdisjoint(token.audiences)


def _entitlement(client: Client, subject_token: AccessToken) -> Entitlement:
    """`ANY` stands for what the subject token has; scopes are never more than that."""
    audiences, scopes = frozenset(subject_token.audiences), frozenset(subject_token.scopes)
    return Entitlement(
        audiences=client.audiences - {ANY} | (audiences if ANY in client.audiences else frozenset()),
        scopes=scopes if ANY in client.scopes else scopes & client.scopes,
        max_lifetime=client.max_lifetime,
    )


def _chain(case: ExchangeCase) -> tuple[Actor, ...]:
    """The actor, whoever acts for the actor, and whoever acted before: none is ever dropped (section 4.1)."""
    behind = case.actor_token.actors if case.actor_token is not None else ()
    chain = (case.actor, *behind, *case.subject_token.actors)
    if len(chain) > MAX_ACTORS:
        raise ExchangeNotAllowedError(f"the chain of actors would be longer than {MAX_ACTORS}")
    return chain


def _generations(case: ExchangeCase) -> dict[PrincipalId, Generation]:
    """Under which generations the new token stands: for each principal the oldest that any source names.

    Principals that the new token does not name by itself get an entry though they were never raised: else
    raising them would not end it.
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
    """Who may act from now on: what the subject token says stands; where it is silent it may be said."""
    if given is None or wanted is None:
        return given if wanted is None else Actor(subject=wanted)
    if given != Actor(subject=wanted):
        raise ExchangeNotAllowedError("the subject token says already who may act (may_act)")
    return given


def _both(of_subject: Mapping[str, object], of_request: Mapping[str, object]) -> Mapping[str, object]:
    taken = sorted(of_subject.keys() & of_request.keys())
    if taken:
        raise InvalidRequestError.of(f"claims.{taken[0]}", "is a claim of the subject token, which stands")
    claims = {**of_subject, **of_request}
    if len(json.dumps(claims, ensure_ascii=False).encode()) > MAX_EXTRA_CLAIMS_BYTES:
        raise InvalidRequestError.of(
            "claims", f"must have at most {MAX_EXTRA_CLAIMS_BYTES} bytes as JSON with the subject token's"
        )
    return claims
