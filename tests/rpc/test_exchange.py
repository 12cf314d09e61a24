"""Token exchange over gRPC, on both stores: who may exchange, what is issued, and revocation."""

from collections.abc import Callable
from typing import Final

import pytest

from identity_service.domain.audit import AuditEvent, AuditType
from identity_service.domain.tokens import MAX_ACTORS
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.patience import until
from tests.rpc.administrator import SERVICE, Administrator, events, fails
from tests.rpc.shop import EXCHANGES, ORDERS_API, STOCK_API, Shop
from tests.rpc.world import Principal, World


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    found = fails(call)
    return found.code.name, found.reason


def verified(shop: Shop, token: str) -> token_pb2.VerifiedToken:
    answer = shop.world.verify(token, audiences=[], any_audience=True)
    assert answer.HasField("verified"), answer.rejected
    return answer.verified


def test_a_service_gets_a_token_for_the_user_of_the_call(shop: Shop) -> None:
    signed_in = shop.sign_in(claims={"tenant": "t1"})

    tokens = shop.exchange(signed_in.access_token)

    found = verified(shop, tokens.access_token)
    assert (found.subject, found.client_id) == (shop.ana.id, "orders")
    assert list(found.audiences) == [STOCK_API]
    assert sorted(found.scopes) == ["read", "write"]
    assert [(actor.subject, actor.client_id) for actor in found.actors] == [("orders", "orders")]
    before = verified(shop, signed_in.access_token)
    assert (found.session_id, found.auth_time) == (before.session_id, before.auth_time)
    assert found.expire_time == before.expire_time
    assert dict(found.claims) == {"tenant": "t1"}
    assert not tokens.refresh_token


def test_a_second_exchange_keeps_the_chain_and_narrows_on(shop: Shop) -> None:
    first = shop.exchange(shop.sign_in().access_token)

    second = shop.exchange(first.access_token, shop.stock)

    found = verified(shop, second.access_token)
    assert [actor.subject for actor in found.actors] == ["stock", "orders"]
    assert (found.subject, list(found.scopes)) == (shop.ana.id, ["read"])


def test_an_actor_token_names_another_actor(shop: Shop, world: World) -> None:
    agent = world.new_client("agent", audiences=(ORDERS_API,))
    acting = world.issue(agent).access_token

    tokens = shop.exchange(shop.sign_in().access_token, actor_token=acting)

    actors = verified(shop, tokens.access_token).actors
    assert [(actor.subject, actor.client_id) for actor in actors] == [("agent", "agent")]


def test_may_act_is_set_at_sign_in_and_kept_by_refresh_and_exchange(shop: Shop) -> None:
    signed_in = shop.sign_in(may_act_client_id="orders")
    renewed = shop.world.refresh(signed_in.refresh_token, client_credential=shop.portal.credential)
    for token in (signed_in.access_token, renewed.access_token):
        assert verified(shop, token).may_act.subject == "orders"

    first = shop.exchange(renewed.access_token)

    assert verified(shop, first.access_token).may_act.subject == "orders"
    assert refusal(lambda: shop.exchange(first.access_token, shop.stock)) == (
        "PERMISSION_DENIED",
        "EXCHANGE_NOT_ALLOWED",
    )


def test_only_the_client_itself_may_act_and_not_a_receiver_of_its_token(shop: Shop, world: World) -> None:
    for_orders = shop.sign_in(may_act_client_id="orders").access_token
    by_orders = world.issue(shop.orders).access_token
    wanted = {"audiences": ("ship-api",), "scopes": ("read",), "exchange_audiences": ("*",)}
    between = world.new_client("between", grants=EXCHANGES, **wanted)

    assert refusal(lambda: shop.exchange(for_orders, between, actor_token=by_orders)) == (
        "PERMISSION_DENIED",
        "EXCHANGE_NOT_ALLOWED",
    )
    assert shop.why(shop.exchange(for_orders, actor_token=by_orders).access_token) == ""


def test_a_chain_of_actors_has_an_end(shop: Shop, world: World) -> None:
    receives = {"audiences": ("hop",), "scopes": ("read",), "exchange_audiences": (ORDERS_API, "hop")}
    hop = world.new_client("hop", grants=EXCHANGES, **receives)
    token = shop.sign_in().access_token
    for length in range(1, MAX_ACTORS + 1):
        token = shop.exchange(token, hop).access_token
        assert len(verified(shop, token).actors) == length

    assert refusal(lambda: shop.exchange(token, hop)) == ("PERMISSION_DENIED", "EXCHANGE_NOT_ALLOWED")


def test_a_token_may_be_exchanged_for_a_shorter_time_and_not_for_a_longer(shop: Shop) -> None:
    held = shop.sign_in(lifetime={"seconds": 60})

    shorter = shop.exchange(held.access_token, lifetime={"seconds": 10})
    longer = shop.exchange(held.access_token, lifetime={"seconds": 3600})

    assert shorter.expire_time.seconds <= held.expire_time.seconds - 49
    assert longer.expire_time == held.expire_time


@pytest.mark.settings(audit_traffic="store")
def test_the_event_of_an_exchange_names_subject_client_and_actors(shop: Shop, world: World) -> None:
    held = shop.sign_in()
    acting = world.issue(world.new_client("agent", audiences=(ORDERS_API,)))

    tokens = shop.exchange(held.access_token, actor_token=acting.access_token)

    def found() -> list[AuditEvent]:
        return [event for event in events(world, shop.ana.id) if event.type is AuditType.TOKEN_EXCHANGED]

    until(lambda: bool(found()))
    (event,) = found()
    assert event.actor == "agent"
    assert dict(event.details) == {
        "client_id": "orders",
        "token_id": tokens.token_id,
        "subject_token_id": held.token_id,
        "actor_token_id": acting.token_id,
    }


def test_an_actor_may_not_list_or_end_the_sessions_of_its_subject(world: World) -> None:
    """The user's own token may do both without a scope. The exchanged token of an actor may not."""
    ana = world.new_user(audiences=(SERVICE,), scopes=("read",))
    receives = {"audiences": (SERVICE,), "scopes": ("read",), "exchange_audiences": (SERVICE,)}
    agent = world.new_client("agent", grants=EXCHANGES, **receives)
    own = world.issue(ana).access_token
    delegated = world.issue(agent, subject_token=own).access_token

    assert len(Administrator(world, own).call("ListSessions").sessions) == 1
    for method, fields in (("ListSessions", {}), ("RevokeSessions", {"own": True})):
        assert Administrator(world, delegated).refused(method, **fields).reason == "CALLER_SCOPE_MISSING"


REFUSED: Final[dict[str, tuple[str, str, Callable[[Shop], object]]]] = {
    "a token for somebody else's audience": (
        "PERMISSION_DENIED",
        "EXCHANGE_NOT_ALLOWED",
        lambda shop: shop.exchange(shop.sign_in().access_token, shop.stock),
    ),
    "a client without the grant": (
        "PERMISSION_DENIED",
        "GRANT_NOT_ALLOWED",
        lambda shop: shop.exchange(
            shop.sign_in().access_token, shop.world.new_client("plain", exchange_audiences=("*",))
        ),
    ),
    "a scope that the subject token lacks": (
        "PERMISSION_DENIED",
        "SCOPE_NOT_ALLOWED",
        lambda shop: shop.exchange(shop.sign_in(scopes=["read"]).access_token, scopes=["write"]),
    ),
    "a wrong secret": (
        "UNAUTHENTICATED",
        "CREDENTIAL_REFUSED",
        lambda shop: shop.exchange(shop.sign_in().access_token, wrong(shop.orders)),
    ),
    "a subject token that is none": (
        "UNAUTHENTICATED",
        "SUBJECT_TOKEN_REFUSED",
        lambda shop: shop.exchange("no.such.token"),
    ),
    "a refresh token as subject token": (
        "UNAUTHENTICATED",
        "SUBJECT_TOKEN_REFUSED",
        lambda shop: shop.exchange(shop.sign_in().refresh_token),
    ),
    "an actor token that is none": (
        "UNAUTHENTICATED",
        "SUBJECT_TOKEN_REFUSED",
        lambda shop: shop.exchange(shop.sign_in().access_token, actor_token="no.such.token"),
    ),
    "an actor token alone": (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        lambda shop: shop.world.issue(shop.orders, actor_token=shop.sign_in().access_token),
    ),
    "a person's password": (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        lambda shop: shop.exchange(shop.sign_in().access_token, shop.ana),
    ),
    "no credential": (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        lambda shop: shop.world.stub.Issue(pb.IssueRequest(subject_token=shop.sign_in().access_token)),
    ),
    "a claim that the subject token has": (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        lambda shop: shop.exchange(
            shop.sign_in(claims={"tenant": "t1"}).access_token, claims={"tenant": "t2"}
        ),
    ),
    "a may_act that is no client id": (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        lambda shop: shop.sign_in(may_act_client_id="no such id"),
    ),
    "a subject token that is too long": (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        lambda shop: shop.exchange("x" * 8193),
    ),
}


def wrong(principal: Principal) -> Principal:
    credential = token_pb2.Credential()
    credential.CopyFrom(principal.credential)
    credential.client_secret.client_secret = "idcs_wrong"
    return Principal(id=principal.id, credential=credential)


@pytest.mark.parametrize("name", REFUSED)
def test_each_exchange_that_is_not_allowed_is_refused_with_its_reason(shop: Shop, name: str) -> None:
    code, reason, call = REFUSED[name]

    assert refusal(lambda: call(shop)) == (code, reason)


def test_an_expired_subject_token_is_refused_even_within_the_leeway(shop: Shop) -> None:
    token = shop.sign_in(lifetime={"seconds": 60}).access_token
    shop.world.clock.advance(seconds=61)
    assert shop.why(token) == ""

    assert refusal(lambda: shop.exchange(token)) == ("UNAUTHENTICATED", "SUBJECT_TOKEN_REFUSED")


REVOKED_BY: Final[dict[str, Callable[[Shop, token_pb2.TokenSet], object]]] = {
    "token": lambda shop, held: shop.world.revoke(token=held.access_token),
    "session": lambda shop, held: shop.world.revoke(token=held.refresh_token),
    "subject": lambda shop, _: shop.world.revoke(shop.world.admin_token(), subject=shop.ana.id),
    "client": lambda shop, _: shop.world.revoke(shop.world.admin_token(), client_id="portal"),
    "everything": lambda shop, _: shop.world.revoke(shop.world.admin_token(), everything=True),
    "disabled person": lambda shop, _: shop.world.disable_user(shop.ana),
    "disabled client": lambda shop, _: shop.world.disable_client(shop.portal),
}


@pytest.mark.parametrize("how", REVOKED_BY)
@pytest.mark.parametrize("field", ["subject_token", "actor_token"])
def test_the_refusal_of_a_revoked_token_names_the_token_and_the_reason(
    shop: Shop, field: str, how: str
) -> None:
    held = shop.sign_in()
    other = shop.sign_in(shop.new_person("bo"), shop.new_app("kiosk")).access_token
    REVOKED_BY[how](shop, held)
    # The process learns from the log of a record that another process changed.
    shop.world.verify(held.access_token, strong=True)
    if how == "everything":
        other = shop.sign_in(app=shop.portal).access_token
    subject, actor = (held.access_token, other) if field == "subject_token" else (other, held.access_token)

    found = fails(lambda: shop.exchange(subject, actor_token=actor))

    assert (found.code.name, found.reason) == ("UNAUTHENTICATED", "SUBJECT_TOKEN_REFUSED")
    assert found.message == f"the {field} was rejected: REVOKED"


def test_revoking_an_exchanged_token_leaves_the_subject_token_alone(shop: Shop) -> None:
    signed_in = shop.sign_in()
    exchanged = shop.exchange(signed_in.access_token)

    shop.world.revoke(token=exchanged.access_token)

    assert (shop.why(exchanged.access_token), shop.why(signed_in.access_token)) == ("REVOKED", "")
