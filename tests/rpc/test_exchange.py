"""Token exchange through a real channel, on both stores: who may, what comes out, and what ends it."""

from collections.abc import Callable
from itertools import permutations
from typing import Any, Final

import grpc
import pytest

from identity_service.domain.principals import Grant
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.rpc.world import Account, World, failure

ORDERS_API, STOCK_API = "orders-api", "stock-api"


class Shop:
    """A person calls `orders`, which calls `stock` in their name."""

    def __init__(self, world: World) -> None:
        self.world = world
        exchange = frozenset({Grant.CLIENT_CREDENTIALS, Grant.TOKEN_EXCHANGE})
        self.ana = world.new_user("ana", audiences=(ORDERS_API,), scopes=("read", "write"))
        self.portal = world.new_confidential_app(audiences=(ORDERS_API,), scopes=("read", "write"))
        self.orders = world.new_client(
            "orders",
            grants=exchange,
            audiences=(STOCK_API,),
            scopes=("read", "write"),
            exchange_audiences=(ORDERS_API,),
        )
        self.stock = world.new_client(
            "stock",
            grants=exchange,
            audiences=("ship-api",),
            scopes=("read",),
            exchange_audiences=(STOCK_API,),
        )

    def sign_in(self, **fields: Any) -> token_pb2.TokenSet:
        credential = token_pb2.Credential()
        credential.CopyFrom(self.ana.credential)
        credential.password.client_id = self.portal.id
        credential.password.client_secret = self.portal.credential.client_secret.client_secret
        request = pb.IssueRequest(credential=credential, audiences=[ORDERS_API], **fields)
        return self.world.stub.Issue(request).token_set

    def exchange(self, subject: str, by: Account | None = None, **fields: Any) -> token_pb2.TokenSet:
        return self.world.issue(by or self.orders, subject_token=subject, **fields)

    def refusal(self, call: Callable[[], object]) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as error:
            call()
        found = failure(error.value)
        return found.code.name, found.reason

    def verified(self, token: str) -> token_pb2.VerifiedToken:
        answer = self.world.verify(token, audiences=[], any_audience=True)
        assert answer.HasField("verified"), answer.rejected
        return answer.verified

    def why(self, token: str) -> str:
        return self.world.reason(token, audiences=[], any_audience=True)


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


def test_a_service_gets_a_token_for_the_person_who_called_it(shop: Shop) -> None:
    signed_in = shop.sign_in(claims={"tenant": "t1"})

    tokens = shop.exchange(signed_in.access_token)

    found = shop.verified(tokens.access_token)
    assert (found.subject, found.client_id) == (shop.ana.id, "orders")
    assert list(found.audiences) == [STOCK_API]
    assert sorted(found.scopes) == ["read", "write"]
    assert [(actor.subject, actor.client_id) for actor in found.actors] == [("orders", "orders")]
    before = shop.verified(signed_in.access_token)
    assert (found.session_id, found.auth_time) == (before.session_id, before.auth_time)
    assert found.expire_time == before.expire_time
    assert dict(found.claims) == {"tenant": "t1"}
    assert not tokens.refresh_token


def test_a_second_exchange_keeps_the_chain_and_narrows_on(shop: Shop) -> None:
    first = shop.exchange(shop.sign_in().access_token)

    second = shop.exchange(first.access_token, shop.stock)

    found = shop.verified(second.access_token)
    assert [actor.subject for actor in found.actors] == ["stock", "orders"]
    assert (found.subject, list(found.scopes)) == (shop.ana.id, ["read"])


def test_an_actor_token_names_another_actor(shop: Shop, world: World) -> None:
    agent = world.new_client("agent", audiences=(ORDERS_API,))
    acting = world.issue(agent).access_token

    tokens = shop.exchange(shop.sign_in().access_token, actor_token=acting)

    actors = shop.verified(tokens.access_token).actors
    assert [(actor.subject, actor.client_id) for actor in actors] == [("agent", "agent")]


def test_who_may_act_is_said_at_sign_in_kept_by_refresh_and_by_exchange(shop: Shop) -> None:
    signed_in = shop.sign_in(may_act_client_id="orders")
    renewed = shop.world.refresh(signed_in.refresh_token, client_credential=shop.portal.credential)
    for token in (signed_in.access_token, renewed.access_token):
        assert shop.verified(token).may_act.subject == "orders"

    first = shop.exchange(renewed.access_token)

    assert shop.verified(first.access_token).may_act.subject == "orders"
    assert shop.refusal(lambda: shop.exchange(first.access_token, shop.stock)) == (
        "PERMISSION_DENIED",
        "EXCHANGE_NOT_ALLOWED",
    )


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


def wrong(account: Account) -> Account:
    credential = token_pb2.Credential()
    credential.CopyFrom(account.credential)
    credential.client_secret.client_secret = "idcs_wrong"
    return Account(id=account.id, credential=credential)


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_not_be_exchanged_is_refused_by_name(shop: Shop, name: str) -> None:
    code, reason, call = REFUSED[name]

    assert shop.refusal(lambda: call(shop)) == (code, reason)


def test_an_expired_subject_token_is_refused_even_within_the_leeway(shop: Shop) -> None:
    token = shop.sign_in(lifetime={"seconds": 60}).access_token
    shop.world.clock.advance(seconds=61)
    assert shop.why(token) == ""

    assert shop.refusal(lambda: shop.exchange(token)) == ("UNAUTHENTICATED", "SUBJECT_TOKEN_REFUSED")


def test_a_revoked_subject_token_is_refused(shop: Shop) -> None:
    token = shop.sign_in().access_token
    shop.world.revoke(token=token)

    assert shop.refusal(lambda: shop.exchange(token)) == ("UNAUTHENTICATED", "SUBJECT_TOKEN_REFUSED")


Level = Callable[[Shop, token_pb2.TokenSet], object]
LEVELS: Final[dict[str, Level]] = {
    "session": lambda shop, t: shop.world.revoke(shop.world.admin_token(), session_id=t.session_id),
    "subject": lambda shop, _: shop.world.revoke(shop.world.admin_token(), subject=shop.ana.id),
    "client of the sign-in": lambda shop, _: shop.world.revoke(
        shop.world.admin_token(), client_id=shop.portal.id
    ),
    "first actor": lambda shop, _: shop.world.revoke(shop.world.admin_token(), subject="orders"),
    "second actor": lambda shop, _: shop.world.revoke(shop.world.admin_token(), client_id="stock"),
    "everything": lambda shop, _: shop.world.revoke(shop.world.admin_token(), everything=True),
}
ENDS_SIGN_IN: Final = frozenset({"session", "subject", "client of the sign-in", "everything"})
ENDS_FIRST: Final = ENDS_SIGN_IN | {"first actor"}
ORDERS_OF_RAISING: Final = [*((level,) for level in LEVELS), *permutations(LEVELS, 2)]


@pytest.mark.parametrize("raised", ORDERS_OF_RAISING, ids="-".join)
def test_every_level_of_an_exchanged_token_counts_on_every_call(shop: Shop, raised: tuple[str, ...]) -> None:
    """Of one that was exchanged twice: session, subject, the client that it began with, each actor."""
    signed_in = shop.sign_in()
    first = shop.exchange(signed_in.access_token, audiences=[STOCK_API])
    second = shop.exchange(first.access_token, shop.stock)
    assert [shop.why(t.access_token) for t in (signed_in, first, second)] == ["", "", ""]

    for level in raised:
        LEVELS[level](shop, signed_in)
        assert shop.why(second.access_token) == "REVOKED"

    def expected(ends: frozenset[str]) -> str:
        return "" if ends.isdisjoint(raised) else "REVOKED"

    assert shop.why(signed_in.access_token) == expected(ENDS_SIGN_IN)
    assert shop.why(first.access_token) == expected(ENDS_FIRST)
    request = pb.VerifyBatchRequest(
        requests=[pb.VerifyRequest(token=second.access_token, any_audience=True) for _ in range(2)]
    )
    answers = shop.world.stub.VerifyBatch(request).responses
    assert [answer.rejected.reason for answer in answers] == [pb.REJECTION_REASON_REVOKED] * 2
    if not ENDS_SIGN_IN.isdisjoint(raised):
        refresh = lambda: shop.world.refresh(  # noqa: E731
            signed_in.refresh_token, client_credential=shop.portal.credential
        )
        assert shop.refusal(refresh) == ("UNAUTHENTICATED", "SESSION_ENDED")


def test_denying_the_subject_token_alone_does_not_end_what_was_exchanged(shop: Shop) -> None:
    signed_in = shop.sign_in()
    exchanged = shop.exchange(signed_in.access_token)

    shop.world.revoke(token=signed_in.access_token)

    assert shop.why(signed_in.access_token) == "REVOKED"
    assert shop.why(exchanged.access_token) == ""


def test_an_exchange_under_raised_generations_gives_a_token_that_is_good(shop: Shop) -> None:
    for level in ("subject", "client of the sign-in", "first actor", "everything"):
        LEVELS[level](shop, shop.sign_in())

    first = shop.exchange(shop.sign_in().access_token)
    second = shop.exchange(first.access_token, shop.stock)

    assert [shop.why(t.access_token) for t in (first, second)] == ["", ""]


def test_revoking_an_exchanged_token_leaves_the_subject_token_alone(shop: Shop) -> None:
    signed_in = shop.sign_in()
    exchanged = shop.exchange(signed_in.access_token)

    shop.world.revoke(token=exchanged.access_token)

    assert (shop.why(exchanged.access_token), shop.why(signed_in.access_token)) == ("REVOKED", "")
