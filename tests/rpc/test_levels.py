"""Every level counts: whichever two are raised, in whichever order, no level hides the other.

A sign-in through a client has five of them: its token, its session, its subject, its client and `*`.
"""

from collections.abc import Callable
from itertools import permutations

import grpc
import pytest

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.rpc.world import API, Account, World, failure

Revoke = Callable[[World, token_pb2.TokenSet, Account, Account], object]

LEVELS: dict[str, Revoke] = {
    "token": lambda world, tokens, *_: world.revoke(token=tokens.access_token),
    "session": lambda world, tokens, *_: world.revoke(world.admin_token(), session_id=tokens.session_id),
    "subject": lambda world, _, user, __: world.revoke(world.admin_token(), subject=user.id),
    "client": lambda world, _, __, app: world.revoke(world.admin_token(), client_id=app.id),
    "everything": lambda world, *_: world.revoke(world.admin_token(), everything=True),
}
ENDS_SESSION = {"session", "subject", "client", "everything"}
PAIRS = [*((level,) for level in LEVELS), *permutations(LEVELS, 2)]


class Tried:
    """A sign-in that is to be revoked, and others that share some of its levels."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.user, other = world.new_user(), world.new_user("bob")
        self.app = world.new_confidential_app()
        second = world.new_confidential_app("second")
        self.tokens = self._sign_in(self.user, self.app)
        self.spared = {
            "token": self._sign_in(self.user, self.app),
            "session": self._sign_in(self.user, self.app),
            "subject": self._sign_in(other, self.app),
            "client": self._sign_in(self.user, second),
        }

    def _sign_in(self, user: Account, app: Account) -> token_pb2.TokenSet:
        credential = token_pb2.Credential()
        credential.CopyFrom(user.credential)
        credential.password.client_id = app.id
        credential.password.client_secret = app.credential.client_secret.client_secret
        request = pb.IssueRequest(credential=credential, audiences=[API])
        return self.world.stub.Issue(request).token_set

    def refresh(self, tokens: token_pb2.TokenSet) -> token_pb2.TokenSet:
        return self.world.refresh(tokens.refresh_token, client_credential=self.app.credential)


def batch(world: World, *tokens: str) -> list[str]:
    request = pb.VerifyBatchRequest(
        requests=[pb.VerifyRequest(token=token, audiences=[API]) for token in tokens]
    )
    names = pb.RejectionReason.Name
    return [
        "" if single.WhichOneof("outcome") == "verified" else names(single.rejected.reason)
        for single in world.stub.VerifyBatch(request).responses
    ]


@pytest.mark.parametrize("raised", PAIRS, ids="-".join)
def test_any_level_that_was_raised_refuses(world: World, raised: tuple[str, ...]) -> None:
    tried = Tried(world)
    token, before = tried.tokens.access_token, world.issue(world.new_client()).access_token
    assert world.reason(token) == ""
    assert batch(world, token, before) == ["", ""]

    for level in raised:
        LEVELS[level](world, tried.tokens, tried.user, tried.app)
        assert world.reason(token) == "REVOKED"

    assert world.reason(token, strong=True) == "REVOKED"
    spared_client = "" if "everything" not in raised else "REJECTION_REASON_REVOKED"
    assert batch(world, token, before, token) == [
        "REJECTION_REASON_REVOKED",
        spared_client,
        "REJECTION_REASON_REVOKED",
    ]
    if ENDS_SESSION.isdisjoint(raised):
        assert world.reason(tried.refresh(tried.tokens).access_token) == "", "one token, not its session"
    else:
        with pytest.raises(grpc.RpcError) as refused:
            tried.refresh(tried.tokens)
        assert failure(refused.value).code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("level", ["token", "session", "subject", "client"])
def test_who_does_not_share_the_level_is_spared(world: World, level: str) -> None:
    tried = Tried(world)
    LEVELS[level](world, tried.tokens, tried.user, tried.app)
    spared = tried.spared[level]
    assert world.reason(spared.access_token) == ""
    assert batch(world, spared.access_token) == [""]


@pytest.mark.parametrize("level", ["subject", "client", "everything"])
def test_who_signs_in_after_the_raise_is_good_and_stays_good_on_refresh(world: World, level: str) -> None:
    tried = Tried(world)
    LEVELS[level](world, tried.tokens, tried.user, tried.app)
    after = tried._sign_in(tried.user, tried.app)
    assert world.reason(after.access_token) == ""
    assert world.reason(tried.refresh(after).access_token) == ""
    assert world.reason(tried.tokens.access_token) == "REVOKED"
