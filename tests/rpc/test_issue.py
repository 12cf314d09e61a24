"""Issue over gRPC, on both stores: the tokens that each kind of credential gets."""

from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from identity_service.domain.principals import Grant
from identity_service.grpc_api import issue
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from tests.rpc.world import API, World, failure, password


def test_a_client_gets_an_access_token_and_no_refresh_token(world: World) -> None:
    """RFC 6749 section 4.4.3 says that a client that acts for itself should get no refresh token."""
    tokens = world.issue(world.new_client())

    assert tokens.token_type == "Bearer"
    assert (list(tokens.audiences), list(tokens.scopes)) == ([API], ["read", "write"])
    assert (tokens.refresh_token, tokens.session_id) == ("", "")
    assert not tokens.HasField("refresh_expire_time")
    assert world.reason(tokens.access_token) == ""


def test_a_client_that_repeats_its_request_gets_another_token(world: World) -> None:
    client = world.new_client()

    first, *others = [world.issue(client, scopes=["read"]) for _ in range(3)]

    ids = {world.verify(tokens.access_token).verified.token_id for tokens in (first, *others)}
    assert ids == {tokens.token_id for tokens in (first, *others)}
    assert len(ids) == 3
    assert all(tokens.audiences == first.audiences and tokens.scopes == ["read"] for tokens in others)


@pytest.mark.in_process
def test_a_repeated_request_is_neither_parsed_nor_decided_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = world.new_client()
    world.service._replica.catch_up()  # otherwise the entry about the client may come after the first call
    world.issue(client)
    monkeypatch.setattr(issue, "to_issue", None)  # a call of it is an error now

    assert world.reason(world.issue(client).access_token) == ""
    with pytest.raises(grpc.RpcError):
        world.issue(client, scopes=["read"])


def test_a_user_gets_a_session(world: World) -> None:
    user = world.new_user()

    tokens = world.issue(user, device="a phone")
    said = world.verify(tokens.access_token).verified

    assert tokens.refresh_token.startswith("idrt_")
    assert said.subject == user.id
    assert said.client_id == "first-party"
    assert (said.session_id, said.token_id) == (tokens.session_id, tokens.token_id)
    assert said.auth_time.seconds > 0
    sessions = timedelta(days=30).total_seconds()
    assert tokens.refresh_expire_time.seconds - said.auth_time.seconds == pytest.approx(sessions, abs=2)


def test_usernames_are_compared_without_case(world: World) -> None:
    world.new_user("Ana")

    tokens = world.stub.Issue(_issue_request("ANA")).token_set
    assert world.reason(tokens.access_token) == ""


def test_the_default_lifetime_is_fifteen_minutes(world: World) -> None:
    said = world.verify(world.issue(world.new_client()).access_token).verified

    assert said.expire_time.seconds - said.issue_time.seconds == 15 * 60


def test_a_lifetime_can_be_chosen_within_the_clients_maximum(world: World) -> None:
    client = world.new_client(max_lifetime=timedelta(minutes=5))

    chosen = world.verify(world.issue(client, lifetime=Duration(seconds=60)).access_token).verified
    default = world.verify(world.issue(client).access_token).verified
    with pytest.raises(grpc.RpcError) as refused:
        world.issue(client, lifetime=Duration(seconds=301))

    assert chosen.expire_time.seconds - chosen.issue_time.seconds == 60
    assert default.expire_time.seconds - default.issue_time.seconds == 300
    assert failure(refused.value).reason == "LIFETIME_OUT_OF_BOUNDS"


def test_scopes_of_the_service_itself_are_given_only_when_asked_for(world: World) -> None:
    assert list(world.issue(world.admin).scopes) == []
    assert list(world.issue(world.admin, scopes=["identity.admin"]).scopes) == ["identity.admin"]


def test_extra_claims_come_back_from_verify(world: World) -> None:
    claims: dict[str, Any] = {
        "tenant": "blue",
        "level": 3,
        "ratio": 0.5,
        "tags": ["a", None, True],
        "deep": {"er": {}},
    }

    tokens = world.stub.Issue(_issue_request("", principal=world.new_client().credential, claims=claims))
    said = world.verify(tokens.token_set.access_token).verified

    assert dict(said.claims) == dict(_struct(claims))


def test_a_user_gets_only_audiences_and_scopes_that_the_client_may_have_too(world: World) -> None:
    portal = world.new_client(
        "portal", grants=(Grant.PASSWORD, Grant.REFRESH_TOKEN), scopes=("read",), public=True
    )
    world.new_user()

    tokens = world.stub.Issue(_issue_request("ana", client_id=portal.id)).token_set

    assert list(tokens.scopes) == ["read"]


def test_a_client_without_the_refresh_grant_gets_no_refresh_token(world: World) -> None:
    world.new_client("kiosk", grants=(Grant.PASSWORD,), public=True)
    world.new_user()

    tokens = world.stub.Issue(_issue_request("ana", client_id="kiosk")).token_set

    assert tokens.access_token
    assert tokens.refresh_token == ""


def test_a_confidential_client_must_show_its_secret_with_the_password(world: World) -> None:
    portal = world.new_confidential_app()
    secret = portal.credential.client_secret.client_secret
    world.new_user()

    right = password("ana", client_id=portal.id, secret=secret)
    assert world.stub.Issue(_issue_request("", principal=right)).token_set.refresh_token
    for wrong in ("", secret + "x"):
        with pytest.raises(grpc.RpcError) as refused:
            world.stub.Issue(_issue_request("", principal=password("ana", client_id=portal.id, secret=wrong)))
        assert failure(refused.value).reason == "CREDENTIAL_REFUSED"


def test_a_rotated_secret_works_and_the_old_one_only_for_the_overlap(world: World) -> None:
    client = world.new_client()
    world.store_admin.administrator.clients.rotate_secret(client.id, overlap=timedelta(hours=1))
    _await_change(world)

    assert world.issue(client).access_token
    world.clock.advance(hours=1, seconds=1)
    with pytest.raises(grpc.RpcError) as refused:
        world.issue(client)
    assert failure(refused.value).reason == "CREDENTIAL_REFUSED"


def _await_change(world: World) -> None:
    """Wait until the service has applied changes that the test wrote to the store directly."""
    world.verify("x", strong=True)


def _issue_request(
    username: str,
    *,
    principal: token_pb2.Credential | None = None,
    client_id: str = "",
    claims: dict[str, Any] | None = None,
) -> pb.IssueRequest:
    request = pb.IssueRequest(credential=principal or password(username, client_id=client_id))
    if claims is not None:
        request.claims.update(claims)
    return request


def _struct(claims: dict[str, Any]) -> Struct:
    struct = Struct()
    struct.update(claims)
    return struct
