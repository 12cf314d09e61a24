"""Tokens that are revoked at two levels, in any order: neither revocation hides the other one.

A sign-in through a client has five levels: its token, its session, its subject, its client and `*`. A token
that was exchanged for such a token also has the levels of all its actors. The module uses Verify, VerifyBatch
and Refresh over gRPC.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

import grpc
import pytest

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.rpc.shop import STOCK_API, Shop
from tests.rpc.world import API, Principal, World, failure

Revoke = Callable[[World, token_pb2.TokenSet, Principal, Principal], object]

LEVELS: dict[str, Revoke] = {
    "token": lambda world, tokens, *_: world.revoke(token=tokens.access_token),
    "session": lambda world, tokens, *_: world.revoke(world.admin_token(), session_id=tokens.session_id),
    "subject": lambda world, _, user, __: world.revoke(world.admin_token(), subject=user.id),
    "client": lambda world, _, __, app: world.revoke(world.admin_token(), client_id=app.id),
    "everything": lambda world, *_: world.revoke(world.admin_token(), everything=True),
}
ENDS_SESSION: Final = frozenset({"session", "subject", "client", "everything"})
PAIRS: Final = [*((level,) for level in LEVELS), *permutations(LEVELS, 2)]
REVOKED: Final = "REVOKED"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """The tokens of one user who signed in through one client."""

    tokens: token_pb2.TokenSet
    app: Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A sign-in that is not revoked itself, and the levels that it shares with the revoked sign-in."""

    sign_in: SignIn
    shares: frozenset[str]


class RevokedSignIn:
    """A sign-in that the test revokes, and other sign-ins that share some of its levels."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.user, other = world.new_user(), world.new_user("bob")
        self.app = world.new_confidential_app()
        second = world.new_confidential_app("second")
        self.revoked = self.sign_in(self.user, self.app)
        self.neighbours = {
            "the same user's other sign-in": Neighbour(
                sign_in=self.sign_in(self.user, self.app),
                shares=frozenset({"subject", "client", "everything"}),
            ),
            "another user of the client": Neighbour(
                sign_in=self.sign_in(other, self.app), shares=frozenset({"client", "everything"})
            ),
            "the same user through another client": Neighbour(
                sign_in=self.sign_in(self.user, second), shares=frozenset({"subject", "everything"})
            ),
            "another user of another client": Neighbour(
                sign_in=self.sign_in(other, second), shares=frozenset({"everything"})
            ),
        }

    def sign_in(self, user: Principal, app: Principal) -> SignIn:
        credential = token_pb2.Credential()
        credential.CopyFrom(user.credential)
        credential.password.client_id = app.id
        credential.password.client_secret = app.credential.client_secret.client_secret
        request = pb.IssueRequest(credential=credential, audiences=[API])
        return SignIn(tokens=self.world.stub.Issue(request).token_set, app=app)

    def revoke(self, level: str) -> None:
        LEVELS[level](self.world, self.revoked.tokens, self.user, self.app)

    def refresh(self, held: SignIn) -> token_pb2.TokenSet:
        return self.world.refresh(held.tokens.refresh_token, client_credential=held.app.credential)

    def why_not_refreshed(self, held: SignIn) -> str:
        """Return the reason why Refresh fails, or "" if it returns a valid access token."""
        try:
            renewed = self.refresh(held)
        except grpc.RpcError as error:
            found = failure(error)
            assert found.code is grpc.StatusCode.UNAUTHENTICATED, found
            return found.reason
        assert self.world.reason(renewed.access_token) == ""
        return ""


def batch(world: World, *tokens: str) -> list[str]:
    """Return the reason why VerifyBatch rejects each token, or "" if the token is valid."""
    request = pb.VerifyBatchRequest(
        requests=[pb.VerifyRequest(token=token, audiences=[API]) for token in tokens]
    )
    names = pb.RejectionReason.Name
    return [
        "" if one.HasField("verified") else names(one.rejected.reason).removeprefix("REJECTION_REASON_")
        for one in world.stub.VerifyBatch(request).responses
    ]


@pytest.mark.parametrize("raised", PAIRS, ids="-".join)
def test_any_level_that_was_raised_refuses_on_every_call(world: World, raised: tuple[str, ...]) -> None:
    tried = RevokedSignIn(world)
    token = tried.revoked.tokens.access_token
    good = tried.neighbours["another user of another client"].sign_in.tokens.access_token
    assert world.reason(token) == ""
    assert batch(world, token, good) == ["", ""]

    for level in raised:
        tried.revoke(level)
        assert world.reason(token) == REVOKED

    assert world.reason(token, strong=True) == REVOKED
    beside = REVOKED if "everything" in raised else ""
    assert batch(world, token, good, token) == [REVOKED, beside, REVOKED]
    ended = not ENDS_SESSION.isdisjoint(raised)
    assert tried.why_not_refreshed(tried.revoked) == ("SESSION_ENDED" if ended else "")


@pytest.mark.parametrize("raised", PAIRS, ids="-".join)
def test_a_raised_level_refuses_the_sign_ins_that_share_it_and_no_others(
    world: World, raised: tuple[str, ...]
) -> None:
    tried = RevokedSignIn(world)
    alone = world.issue(world.new_client()).access_token
    for level in raised:
        tried.revoke(level)

    for who, neighbour in tried.neighbours.items():
        token = neighbour.sign_in.tokens.access_token
        shared = not neighbour.shares.isdisjoint(raised)
        assert world.reason(token) == (REVOKED if shared else ""), who
        assert batch(world, token) == [REVOKED if shared else ""], who
        assert tried.why_not_refreshed(neighbour.sign_in) == ("SESSION_ENDED" if shared else ""), who
    assert world.reason(alone) == (REVOKED if "everything" in raised else ""), "a client without a session"


@pytest.mark.parametrize("level", ["subject", "client", "everything"])
def test_a_sign_in_after_the_raise_is_accepted_and_stays_so_on_refresh(world: World, level: str) -> None:
    tried = RevokedSignIn(world)
    tried.revoke(level)
    after = tried.sign_in(tried.user, tried.app)
    assert world.reason(after.tokens.access_token) == ""
    assert batch(world, after.tokens.access_token) == [""]
    assert tried.why_not_refreshed(after) == ""
    assert world.reason(tried.revoked.tokens.access_token) == REVOKED


# With actors


class Delegated:
    """A token that was exchanged twice and so has two actors, and tokens that share some of its levels.

    The user ana signs in through `portal`, and the client `orders` exchanges her token. The client `stock`
    exchanges the result for a token whose second actor is the user bo, who signed in through `kiosk`.
    """

    def __init__(self, world: World) -> None:
        self.shop = shop = Shop(world)
        self.bo, self.kiosk = shop.new_person("bo"), shop.new_app("kiosk")
        carl, window = shop.new_person("carl"), shop.new_app("window")
        self.signed_in = shop.sign_in()
        self.first = shop.exchange(self.signed_in.access_token)
        self.second = self.acted_for(self.first, by=self.bo, through=self.kiosk)
        of_carl = shop.sign_in(carl, window)
        first_of_carl = shop.exchange(of_carl.access_token)
        also_through_stock = self.acted_for(first_of_carl, by=shop.ana, through=window)
        self.neighbours: dict[str, tuple[token_pb2.TokenSet, frozenset[str]]] = {
            "the sign-in": (self.signed_in, frozenset({"session", "subject", "client", "everything"})),
            "the first exchange": (
                self.first,
                frozenset({"session", "subject", "client", "first actor", "everything"}),
            ),
            "another exchange of the same": (
                shop.exchange(self.signed_in.access_token),
                frozenset({"session", "subject", "client", "first actor", "everything"}),
            ),
            "the actor's own sign-in": (
                shop.sign_in(self.bo, window),
                frozenset({"last actor", "everything"}),
            ),
            "another's sign-in": (of_carl, frozenset({"everything"})),
            "another's first exchange": (first_of_carl, frozenset({"first actor", "everything"})),
            "another's, where the subject acts": (
                also_through_stock,
                frozenset({"subject", "first actor", "last client", "everything"}),
            ),
        }

    def acted_for(self, held: token_pb2.TokenSet, *, by: Principal, through: Principal) -> token_pb2.TokenSet:
        acting = self.shop.sign_in(by, through, STOCK_API).access_token
        return self.shop.exchange(held.access_token, self.shop.stock, actor_token=acting)

    def revoke(self, level: str) -> None:
        ACTOR_LEVELS[level](self)

    def revoke_all(self, **target: Any) -> None:
        self.shop.world.revoke(self.shop.world.admin_token(), **target)

    def why_not_refreshed(self) -> str:
        """Return the reason why Refresh fails, or "" if it returns an access token that can be exchanged."""
        try:
            renewed = self.shop.world.refresh(
                self.signed_in.refresh_token, client_credential=self.shop.portal.credential
            )
        except grpc.RpcError as error:
            return failure(error).reason
        assert self.shop.why(self.shop.exchange(renewed.access_token).access_token) == ""
        return ""


ACTOR_LEVELS: Final[dict[str, Callable[[Delegated], object]]] = {
    "token": lambda d: d.shop.world.revoke(token=d.second.access_token),
    "session": lambda d: d.revoke_all(session_id=d.signed_in.session_id),
    "subject": lambda d: d.revoke_all(subject=d.shop.ana.id),
    "client": lambda d: d.revoke_all(client_id=d.shop.portal.id),
    "first actor": lambda d: d.revoke_all(client_id=d.shop.orders.id),
    "last actor": lambda d: d.revoke_all(subject=d.bo.id),
    "last actor's client": lambda d: d.revoke_all(client_id=d.kiosk.id),
    "last client": lambda d: d.revoke_all(client_id=d.shop.stock.id),
    "everything": lambda d: d.revoke_all(everything=True),
}
ACTOR_PAIRS: Final = [*((level,) for level in ACTOR_LEVELS), *permutations(ACTOR_LEVELS, 2)]


@pytest.mark.parametrize("raised", ACTOR_PAIRS, ids="-".join)
def test_any_level_of_an_exchanged_token_refuses_it_and_the_tokens_that_share_it_alone(
    world: World, raised: tuple[str, ...]
) -> None:
    tried = Delegated(world)
    shop, token = tried.shop, tried.second.access_token
    beside = [held.access_token for held, _ in tried.neighbours.values()]
    assert shop.whys(token, *beside) == [""] * (1 + len(beside))

    for level in raised:
        tried.revoke(level)
        assert shop.why(token) == REVOKED

    expected = [REVOKED if shares & {*raised} else "" for _, shares in tried.neighbours.values()]
    assert dict(zip(tried.neighbours, map(shop.why, beside), strict=True)) == dict(
        zip(tried.neighbours, expected, strict=True)
    )
    assert shop.whys(token, *beside, token) == [REVOKED, *expected, REVOKED]
    ended = not ENDS_SESSION.isdisjoint(raised)
    assert tried.why_not_refreshed() == ("SESSION_ENDED" if ended else "")


@pytest.mark.parametrize("level", sorted(ACTOR_LEVELS.keys() - {"token", "session"}))
def test_a_token_exchanged_after_the_raise_is_accepted(world: World, level: str) -> None:
    """After a new sign-in, the tokens of both exchanges have the raised generation."""
    tried = Delegated(world)
    tried.revoke(level)
    after = tried.shop.exchange(tried.shop.sign_in().access_token)
    again = tried.acted_for(after, by=tried.bo, through=tried.kiosk)
    assert tried.shop.whys(after.access_token, again.access_token) == ["", ""]
    assert tried.shop.why(tried.second.access_token) == REVOKED
