"""Token exchange (RFC 8693): no sequence of exchanges adds a permission or loses an actor."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.errors import (
    AudienceNotAllowedError,
    ExchangeNotAllowedError,
    GrantNotAllowedError,
    InvalidRequestError,
    ScopeNotAllowedError,
)
from identity_service.domain.exchange import ExchangeCase, Exchanged, decide_exchange
from identity_service.domain.grants import GrantRequest, LifetimeBounds
from identity_service.domain.ids import EVERYONE, Link, PrincipalId, SessionId, TokenId
from identity_service.domain.log import NEVER_RAISED, Generation
from identity_service.domain.principals import Client, Grant
from identity_service.domain.tokens import MAX_ACTORS, AccessToken, Actor

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ANA, PORTAL, ORDERS, STOCK = (PrincipalId(n) for n in ("u_ana", "portal", "orders", "stock"))
ONCE = Generation(number=1, link=Link("one"))
TWICE = Generation(number=2, link=Link("two"))


def a_token(**changes: Any) -> AccessToken:
    values: dict[str, Any] = {
        "issuer": "i",
        "subject": ANA,
        "client_id": PORTAL,
        "audiences": ("orders-api",),
        "scopes": ("read", "write"),
        "token_id": TokenId("t"),
        "session_id": SessionId("s"),
        "issue_time": NOW,
        "expire_time": NOW + timedelta(minutes=10),
    }
    return AccessToken(**(values | changes))


def a_client(client_id: PrincipalId = ORDERS, **changes: Any) -> Client:
    values: dict[str, Any] = {
        "grants": frozenset({Grant.TOKEN_EXCHANGE}),
        "audiences": frozenset({"stock-api"}),
        "scopes": frozenset({"read", "admin"}),
        "exchange_audiences": frozenset({"orders-api"}),
    }
    return Client(client_id=client_id, **(values | changes))


def exchanged(
    subject: AccessToken | None = None,
    client: Client | None = None,
    *,
    actor: AccessToken | None = None,
    generations: Mapping[PrincipalId, Generation] | None = None,
    claims: Mapping[str, object] | None = None,
    may_act: PrincipalId | None = None,
    **asked: Any,
) -> Exchanged:
    client = client or a_client()
    case = ExchangeCase(
        subject_token=subject or a_token(),
        actor_token=actor,
        client=client,
        client_subject=client.client_id,
        generations=generations or {},
    )
    request = GrantRequest(**asked)
    return decide_exchange(case, request, LifetimeBounds(), NOW, claims=claims or {}, may_act=may_act)


def next_token(before: AccessToken, client: Client, found: Exchanged) -> AccessToken:
    return replace(
        before,
        client_id=client.client_id,
        audiences=found.audiences,
        scopes=found.scopes,
        actors=found.actors,
        generations=found.generations,
        expire_time=found.expire_time,
        may_act=found.may_act,
        claims=found.claims,
    )


def test_the_client_acts_for_the_subject_and_may_do_what_both_may() -> None:
    found = exchanged()

    assert found.actors == (Actor(subject=ORDERS, client_id=ORDERS),)
    assert (found.audiences, found.scopes) == (("stock-api",), ("read",))
    assert found.expire_time == NOW + timedelta(minutes=10)


def test_a_shorter_lifetime_is_kept_and_a_longer_one_ends_with_the_subject_token() -> None:
    assert exchanged(lifetime=timedelta(minutes=1)).expire_time == NOW + timedelta(minutes=1)
    assert exchanged(lifetime=timedelta(hours=1)).expire_time == NOW + timedelta(minutes=10)


def test_a_client_without_the_grant_may_not_exchange() -> None:
    with pytest.raises(GrantNotAllowedError):
        exchanged(client=a_client(grants=frozenset({Grant.CLIENT_CREDENTIALS})))


def test_a_client_may_exchange_only_tokens_that_were_meant_for_it() -> None:
    with pytest.raises(ExchangeNotAllowedError):
        exchanged(a_token(audiences=("another-api",)))
    with pytest.raises(ExchangeNotAllowedError):
        exchanged(client=a_client(exchange_audiences=frozenset()))

    found = exchanged(a_token(audiences=("x",)), a_client(exchange_audiences=frozenset({"*"})))
    assert found.audiences == ("stock-api",)


def test_nothing_is_given_that_only_one_of_both_may_have() -> None:
    with pytest.raises(ScopeNotAllowedError):
        exchanged(scopes=("write",))  # the subject's alone
    with pytest.raises(ScopeNotAllowedError):
        exchanged(scopes=("admin",))  # the client's alone
    with pytest.raises(AudienceNotAllowedError):
        exchanged(audiences=("orders-api",))


def test_scopes_of_this_service_are_granted_only_on_request_and_if_both_sides_have_them() -> None:
    both = {"identity.revoke", "read"}
    subject, client = a_token(scopes=tuple(both)), a_client(scopes=frozenset(both))

    assert exchanged(subject, client).scopes == ("read",)
    assert exchanged(subject, client, scopes=("identity.revoke",)).scopes == ("identity.revoke",)
    with pytest.raises(ScopeNotAllowedError):
        exchanged(client=client, scopes=("identity.revoke",))


def test_an_actor_token_names_its_actor_and_the_actors_behind_it() -> None:
    actor = a_token(
        subject=PrincipalId("u_bo"),
        client_id=ORDERS,
        actors=(Actor(subject=PrincipalId("helper"), client_id=None),),
    )
    subject = a_token(actors=(Actor(subject=PORTAL, client_id=PORTAL),))

    assert exchanged(subject, actor=actor).actors == (
        Actor(subject=PrincipalId("u_bo"), client_id=ORDERS),
        Actor(subject=PrincipalId("helper"), client_id=None),
        Actor(subject=PORTAL, client_id=PORTAL),
    )


def test_an_actor_token_must_be_the_clients_own_or_meant_for_it() -> None:
    with pytest.raises(ExchangeNotAllowedError):
        exchanged(actor=a_token(client_id=PORTAL, audiences=("another-api",)))

    own = exchanged(actor=a_token(client_id=ORDERS, audiences=("another-api",)))
    received = exchanged(actor=a_token(client_id=PORTAL, audiences=("orders-api",)))
    assert [found.actors[0].client_id for found in (own, received)] == [ORDERS, PORTAL]


def test_only_an_actor_that_the_subject_token_names_may_act() -> None:
    for_orders = a_token(may_act=Actor(subject=ORDERS))

    assert exchanged(for_orders).may_act == Actor(subject=ORDERS)
    for limit in (Actor(subject=STOCK), Actor(subject=ORDERS, client_id=STOCK)):
        with pytest.raises(ExchangeNotAllowedError):
            exchanged(a_token(may_act=limit))
    with pytest.raises(ExchangeNotAllowedError):
        exchanged(for_orders, actor=a_token(subject=PrincipalId("u_bo"), client_id=ORDERS))


def test_a_client_that_received_a_token_of_a_permitted_actor_may_not_act() -> None:
    for_orders = a_token(audiences=("stock-api",), may_act=Actor(subject=ORDERS))
    of_orders = a_token(subject=ORDERS, client_id=ORDERS, audiences=("stock-api",))
    stock = a_client(STOCK, exchange_audiences=frozenset({"stock-api"}))
    orders = a_client(ORDERS, exchange_audiences=frozenset({"stock-api"}))

    with pytest.raises(ExchangeNotAllowedError):
        exchanged(for_orders, stock, actor=of_orders)
    assert exchanged(for_orders, orders, actor=of_orders).actors[0].subject == ORDERS


def test_may_act_can_be_set_if_the_subject_token_has_none_and_not_changed() -> None:
    assert exchanged(may_act=STOCK).may_act == Actor(subject=STOCK)
    assert exchanged(a_token(may_act=Actor(subject=ORDERS)), may_act=ORDERS).may_act == Actor(subject=ORDERS)
    with pytest.raises(ExchangeNotAllowedError):
        exchanged(a_token(may_act=Actor(subject=ORDERS)), may_act=STOCK)


def test_the_chain_of_actors_is_bounded() -> None:
    chain = tuple(Actor(subject=PrincipalId(f"a{n}")) for n in range(MAX_ACTORS - 1))
    assert len(exchanged(a_token(actors=chain)).actors) == MAX_ACTORS

    with pytest.raises(ExchangeNotAllowedError):
        exchanged(a_token(actors=(*chain, Actor(subject=ORDERS))))


def test_claims_of_the_subject_token_stand_and_others_may_be_added() -> None:
    subject = a_token(claims={"tenant": "t1"})

    assert exchanged(subject, claims={"task": 7}).claims == {"tenant": "t1", "task": 7}
    with pytest.raises(InvalidRequestError, match="tenant"):
        exchanged(subject, claims={"tenant": "t2"})
    with pytest.raises(InvalidRequestError, match="2048"):
        exchanged(a_token(claims={"a": "x" * 1100}), claims={"b": "x" * 1100})


def test_the_client_of_the_subject_token_counts_though_it_is_not_named_any_more() -> None:
    """The generation 0 in the new token means that the next raise for this client revokes the token."""
    found = exchanged()

    assert found.generations == {PORTAL: NEVER_RAISED}
    token = next_token(a_token(), a_client(), found)
    assert PORTAL in token.principals
    assert ONCE.is_raised_over(token.generations[PORTAL])


def test_generations_of_the_subject_token_are_taken_over_as_they_were() -> None:
    """With the present generations, the new token would be valid although its subject token is revoked."""
    subject = a_token(generations={ANA: ONCE, PORTAL: TWICE, PrincipalId("f_old"): ONCE})

    found = exchanged(subject, generations={ANA: TWICE, EVERYONE: ONCE, ORDERS: TWICE})

    assert found.generations == {ANA: ONCE, PORTAL: TWICE, PrincipalId("f_old"): ONCE, ORDERS: TWICE}


def test_if_subject_and_actor_token_disagree_the_older_generation_counts() -> None:
    subject, actor = a_token(generations={ANA: TWICE}), a_token(client_id=ORDERS, generations={ANA: ONCE})

    assert exchanged(subject, actor=actor).generations[ANA] == ONCE
    assert (
        exchanged(replace(actor, client_id=PORTAL), actor=replace(subject, client_id=ORDERS)).generations[ANA]
        == ONCE
    )
    assert ANA not in exchanged(subject, actor=a_token(client_id=ORDERS)).generations


SCOPES = st.frozensets(st.sampled_from(["read", "write", "pay", "ship"]))
STEPS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), SCOPES, st.integers(1, 900)),
    min_size=1,
    max_size=MAX_ACTORS + 2,
)


@given(STEPS, SCOPES)
def test_no_chain_of_exchanges_widens_anything(
    steps: list[tuple[str, frozenset[str], int]], scopes: frozenset[str]
) -> None:
    first = token = a_token(scopes=tuple(sorted(scopes)), generations={PORTAL: ONCE})
    for name, allowed, seconds in steps:
        client = a_client(
            PrincipalId(name),
            audiences=frozenset({f"{name}-api"}),
            scopes=allowed,
            exchange_audiences=frozenset({"*"}),
        )
        before = token
        try:
            found = exchanged(token, client, lifetime=timedelta(seconds=seconds))
        except ExchangeNotAllowedError:
            assert len(before.actors) == MAX_ACTORS
            return
        token = next_token(before, client, found)
        assert set(token.scopes) <= set(before.scopes) & allowed
        assert set(token.audiences) <= client.audiences
        assert token.expire_time <= before.expire_time
        assert token.actors[1:] == before.actors
        assert before.principals <= token.principals
        assert token.principals >= first.principals
        assert token.generations[PORTAL] == ONCE
