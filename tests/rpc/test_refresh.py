"""Refresh over gRPC, on both stores: rotation, replay and reuse of tokens, and when a session ends."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from identity_service.composition.opening import open_vault
from identity_service.domain.ids import SessionId
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.principals import OnReuse
from identity_service.domain.secret import RefreshToken, derive_refresh_token, read_refresh_token
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from identityapi.v1 import token_pb2
from tests.rpc.world import Principal, World, failure, password


def refused(world: World, refresh_token: str, **fields: object) -> str:
    """Return the reason why Refresh refuses the token; fail if Refresh accepts the token."""
    with pytest.raises(grpc.RpcError) as error:
        world.refresh(refresh_token, **fields)
    assert failure(error.value).code is grpc.StatusCode.UNAUTHENTICATED
    return failure(error.value).reason


@pytest.fixture
def first(world: World) -> token_pb2.TokenSet:
    """The tokens of a new sign-in."""
    return world.issue(world.new_user())


def test_the_latest_token_rotates(world: World, first: token_pb2.TokenSet) -> None:
    second = world.refresh(first.refresh_token)

    assert second.refresh_token != first.refresh_token
    assert second.session_id == first.session_id
    assert second.token_id != first.token_id
    assert second.refresh_expire_time == first.refresh_expire_time
    assert world.reason(second.access_token) == ""


def test_the_parent_gives_the_same_successor_within_the_window(
    world: World, first: token_pb2.TokenSet
) -> None:
    second = world.refresh(first.refresh_token)
    world.clock.advance(seconds=59)

    assert world.refresh(first.refresh_token).refresh_token == second.refresh_token


def test_the_window_does_not_slide(world: World, first: token_pb2.TokenSet) -> None:
    second = world.refresh(first.refresh_token)
    for _ in range(2):
        world.clock.advance(seconds=29)
        assert world.refresh(first.refresh_token).refresh_token == second.refresh_token
    world.clock.advance(seconds=4)

    assert world.refresh(first.refresh_token).refresh_token != second.refresh_token


def test_past_the_window_a_lost_reply_is_made_good_and_the_one_between_is_void(
    world: World, first: token_pb2.TokenSet
) -> None:
    lost = world.refresh(first.refresh_token)
    world.clock.advance(days=3)

    found = world.refresh(first.refresh_token)

    assert found.refresh_token not in (lost.refresh_token, first.refresh_token)
    assert refused(world, lost.refresh_token) == "REFRESH_TOKEN_SUPERSEDED"
    assert world.refresh(first.refresh_token).refresh_token == found.refresh_token
    assert world.refresh(found.refresh_token).refresh_token


def test_a_void_token_ends_the_session_once_its_window_is_over(
    world: World, first: token_pb2.TokenSet
) -> None:
    void = world.refresh(first.refresh_token)
    world.clock.advance(seconds=61)
    latest = world.refresh(first.refresh_token)
    world.clock.advance(seconds=61)

    assert refused(world, void.refresh_token) == "REFRESH_TOKEN_REUSED"
    assert refused(world, latest.refresh_token) == "SESSION_ENDED"
    assert world.reason(latest.access_token) == "REVOKED"


def test_an_older_token_is_harmless_within_its_window(world: World, first: token_pb2.TokenSet) -> None:
    third = world.refresh(world.refresh(first.refresh_token).refresh_token)
    world.clock.advance(seconds=59)

    assert refused(world, first.refresh_token) == "REFRESH_TOKEN_SUPERSEDED"
    assert world.refresh(third.refresh_token).refresh_token


def test_an_older_token_is_reuse_after_its_window_and_ends_this_session_only(
    world: World, first: token_pb2.TokenSet
) -> None:
    other = world.issue(Principal(id="", credential=password("ana")))
    third = world.refresh(world.refresh(first.refresh_token).refresh_token)
    world.clock.advance(seconds=61)

    assert refused(world, first.refresh_token) == "REFRESH_TOKEN_REUSED"
    assert refused(world, third.refresh_token) == "SESSION_ENDED"
    assert world.reason(third.access_token) == "REVOKED"
    assert world.refresh(other.refresh_token).refresh_token
    assert world.reason(other.access_token) == ""


def test_a_token_ahead_of_the_latest_moves_the_session_forward(
    world: World, first: token_pb2.TokenSet
) -> None:
    """A failover of the store can lose rotations. A client then has a valid token with a later number."""
    ahead = _derive(world, first, number=5)

    next_ = world.refresh(ahead)

    assert next_.refresh_token == _derive(world, first, number=6)
    assert refused(world, first.refresh_token) == "REFRESH_TOKEN_SUPERSEDED"
    assert world.refresh(ahead).refresh_token == next_.refresh_token


def test_500_concurrent_refreshes_over_several_connections_give_one_successor(
    world: World, first: token_pb2.TokenSet
) -> None:
    channels = [
        grpc.insecure_channel(world.target, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(5)
    ]
    stubs = [rpc.IdentityServiceStub(channel) for channel in channels]
    request = pb.RefreshRequest(refresh_token=first.refresh_token)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: stubs[n % 5].Refresh(request).token_set, range(500)))
    for channel in channels:
        channel.close()

    assert len({answer.refresh_token for answer in answers}) == 1
    assert len({answer.token_id for answer in answers}) == 500
    assert world.refresh(answers[0].refresh_token).refresh_token != answers[0].refresh_token


def test_the_session_ends_on_its_last_day(world: World, first: token_pb2.TokenSet) -> None:
    world.clock.advance(days=29, hours=23, minutes=50)
    last = world.refresh(first.refresh_token)
    world.clock.advance(minutes=10)

    assert last.expire_time == _whole(last.refresh_expire_time)
    assert refused(world, last.refresh_token) in {"SESSION_ENDED", "REFRESH_TOKEN_INVALID"}


def test_scopes_and_audiences_can_be_narrowed_for_one_access_token(world: World) -> None:
    user = world.new_user(audiences=("api", "files"))
    first = world.issue(user, audiences=["api", "files"])

    narrow = world.refresh(first.refresh_token, scopes=["read"], audiences=["files"])
    wide = world.refresh(narrow.refresh_token)

    assert (list(narrow.scopes), list(narrow.audiences)) == (["read"], ["files"])
    assert (list(wide.scopes), list(wide.audiences)) == (["read", "write"], ["api", "files"])


def test_asking_for_more_than_the_session_holds_is_refused_and_rotates_nothing(
    world: World, first: token_pb2.TokenSet
) -> None:
    for fields, reason in (
        ({"scopes": ["admin"]}, "SCOPE_NOT_ALLOWED"),
        ({"audiences": ["files"]}, "AUDIENCE_NOT_ALLOWED"),
    ):
        with pytest.raises(grpc.RpcError) as error:
            world.refresh(first.refresh_token, **fields)
        assert failure(error.value).reason == reason
    state = world.store.sessions.read(SessionId(first.session_id))
    assert state is not None
    assert state.session.latest == 0


def test_a_forged_token_is_refused(world: World, first: token_pb2.TokenSet) -> None:
    forged = first.refresh_token[:-1] + ("A" if first.refresh_token[-1] != "A" else "B")

    assert refused(world, forged) == "REFRESH_TOKEN_INVALID"
    assert refused(world, "idrt_" + "A" * 80) == "REFRESH_TOKEN_INVALID"
    assert refused(world, first.access_token) == "REFRESH_TOKEN_INVALID"
    assert world.refresh(first.refresh_token).refresh_token


def test_a_confidential_client_must_authenticate_itself(world: World) -> None:
    portal, stranger = world.new_confidential_app(), world.new_client("stranger")
    secret = portal.credential.client_secret.client_secret
    world.new_user()
    tokens = world.stub.Issue(
        pb.IssueRequest(credential=password("ana", client_id=portal.id, secret=secret))
    ).token_set

    assert refused(world, tokens.refresh_token) == "CREDENTIAL_REFUSED"
    assert refused(world, tokens.refresh_token, client_credential=stranger.credential) == "CREDENTIAL_REFUSED"
    assert world.refresh(tokens.refresh_token, client_credential=portal.credential).refresh_token


def test_reuse_by_an_authenticated_client_set_to_refuse_leaves_the_session_alive(world: World) -> None:
    portal = world.new_confidential_app()
    _set_on_reuse(world, portal.id, OnReuse.REFUSE)
    secret = portal.credential.client_secret.client_secret
    world.new_user()
    first = world.stub.Issue(
        pb.IssueRequest(credential=password("ana", client_id=portal.id, secret=secret))
    ).token_set
    known = {"client_credential": portal.credential}
    third = world.refresh(world.refresh(first.refresh_token, **known).refresh_token, **known)
    world.clock.advance(seconds=61)

    assert refused(world, first.refresh_token, **known) == "REFRESH_TOKEN_REUSED"
    assert world.refresh(third.refresh_token, **known).refresh_token


def test_a_disabled_user_cannot_refresh(world: World, first: token_pb2.TokenSet) -> None:
    world.disable_user(world.user())

    assert refused(world, first.refresh_token) == "SESSION_ENDED"
    world.disable_user(world.user(), disabled=False)
    assert refused(world, first.refresh_token) == "SESSION_ENDED"


def test_rights_taken_from_a_user_are_missing_after_the_next_refresh(
    world: World, first: token_pb2.TokenSet
) -> None:
    found = world.store_admin.administrator.users.find("ana")
    world.store.records.update(replace(found.record, scopes=frozenset({"read"})), expected=found.revision)

    assert list(world.refresh(first.refresh_token).scopes) == ["read"]


def _derive(world: World, tokens: token_pb2.TokenSet, *, number: int) -> str:
    """Return the refresh token with this number in the session of `tokens`, made with the service's key."""
    vault = open_vault(world.settings)
    keys = (found.record for found in world.store.records.list_of(StoredKey))
    opened = {key.key_id: vault.open_refresh(key) for key in keys if key.purpose is KeyPurpose.REFRESH}
    shown = read_refresh_token(tokens.refresh_token, opened.get)
    return derive_refresh_token(
        opened[shown.key_id],
        RefreshToken(key_id=shown.key_id, session_id=shown.session_id, number=number),
    )


def _set_on_reuse(world: World, client_id: str, on_reuse: OnReuse) -> None:
    found = world.store_admin.administrator.clients.get(client_id)
    world.store.records.update(replace(found.record, on_reuse=on_reuse), expected=found.revision)


def _whole(time: Timestamp) -> Timestamp:
    return Timestamp(seconds=time.seconds)
