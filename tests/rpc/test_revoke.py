"""Revoke over gRPC, on both stores: every target, the permissions, and the tokens that stay valid."""

from itertools import pairwise
from typing import Any

import grpc
import pytest

from identity_service.domain.log import LogEntry, TokenDenied
from identity_service.domain.secret import Secret
from identityapi.v1 import token_pb2
from tests.high_s import twin
from tests.rpc.world import Principal, World, failure, password


@pytest.fixture
def user_tokens(world: World) -> token_pb2.TokenSet:
    return world.issue(world.new_user())


def refused(world: World, refresh_token: str) -> str:
    with pytest.raises(grpc.RpcError) as error:
        world.refresh(refresh_token)
    return failure(error.value).reason


def entries(world: World) -> tuple[LogEntry, ...]:
    return world.store.log.read(0, 1000).entries


def test_a_revoked_access_token_is_refused_and_no_other(world: World) -> None:
    client = world.new_client()
    one, other = world.issue(client), world.issue(client)

    world.revoke(token=one.access_token)

    assert world.reason(one.access_token) == "REVOKED"
    assert world.reason(other.access_token) == ""


def test_revoking_a_token_denies_its_high_s_twin_and_the_other_way_round(world: World) -> None:
    """Replacing s by n - s in an ES256 signature gives another valid signature, and so another token text."""
    client = world.new_client()
    for show, keep in ((0, 1), (1, 0)):
        token = world.issue(client).access_token
        texts = (token, twin(token))
        assert [world.reason(text) for text in texts] == ["", ""]

        world.revoke(token=texts[show])

        assert world.reason(texts[keep]) == "REVOKED"
        assert world.reason(texts[show]) == "REVOKED"


def test_revoking_a_refresh_token_ends_its_session(world: World, user_tokens: token_pb2.TokenSet) -> None:
    other = world.issue(Principal(id="", credential=password("ana")))

    world.revoke(token=user_tokens.refresh_token)

    assert world.reason(user_tokens.access_token) == "REVOKED"
    assert refused(world, user_tokens.refresh_token) == "SESSION_ENDED"
    assert world.reason(other.access_token) == ""
    assert world.refresh(other.refresh_token).refresh_token


def test_the_revoked_access_token_of_a_session_leaves_the_session_alive(
    world: World, user_tokens: token_pb2.TokenSet
) -> None:
    world.revoke(token=user_tokens.access_token)

    assert world.reason(world.refresh(user_tokens.refresh_token).access_token) == ""


def test_by_token_id(world: World) -> None:
    tokens = world.issue(world.new_client())

    world.revoke(caller=world.admin_token(), token_id=tokens.token_id)

    assert world.reason(tokens.access_token) == "REVOKED"


def test_by_session_id(world: World, user_tokens: token_pb2.TokenSet) -> None:
    world.revoke(caller=world.admin_token(), session_id=user_tokens.session_id)

    assert world.reason(user_tokens.access_token) == "REVOKED"
    assert refused(world, user_tokens.refresh_token) == "SESSION_ENDED"


def test_by_subject_a_sign_in_right_after_works(world: World) -> None:
    user = world.new_user()
    before, admin = world.issue(user), world.admin_token()

    world.revoke(caller=admin, subject=user.id)
    after = world.issue(user)

    assert world.reason(before.access_token) == "REVOKED"
    assert refused(world, before.refresh_token) == "SESSION_ENDED"
    assert world.reason(after.access_token) == ""
    assert world.reason(world.refresh(after.refresh_token).access_token) == ""


def test_revoking_by_client_revokes_the_users_tokens_through_it_too(
    world: World, user_tokens: token_pb2.TokenSet
) -> None:
    world.revoke(caller=world.admin_token(), client_id="first-party")

    assert world.reason(user_tokens.access_token) == "REVOKED"
    assert refused(world, user_tokens.refresh_token) == "SESSION_ENDED"


def test_everything(world: World, user_tokens: token_pb2.TokenSet) -> None:
    client = world.new_client()
    tokens, admin = world.issue(client), world.admin_token()

    world.revoke(caller=admin, everything=True)

    for text in (tokens.access_token, user_tokens.access_token):
        assert world.reason(text) == "REVOKED"
    assert refused(world, user_tokens.refresh_token) == "SESSION_ENDED"
    assert world.reason(world.issue(client).access_token) == ""


def test_repeating_a_revocation_is_ok_and_writes_no_entry(world: World) -> None:
    tokens = world.issue(world.new_client())
    first = world.revoke(token=tokens.access_token)
    before = entries(world)

    assert world.revoke(token=tokens.access_token) == first
    assert entries(world) == before


def test_a_repeated_request_id_raises_a_generation_once(world: World) -> None:
    user = world.new_user()
    admin = world.admin_token()
    first = world.revoke(caller=admin, subject=user.id, request_id="r1")
    tokens = world.issue(user)

    assert world.revoke(caller=admin, subject=user.id, request_id="r1") == first
    assert world.reason(tokens.access_token) == ""
    assert world.revoke(caller=admin, subject=user.id, request_id="r2") != first
    assert world.reason(tokens.access_token) == "REVOKED"


def test_a_token_that_does_not_verify_is_ok_without_effect(world: World) -> None:
    """Revoke of an invalid token succeeds and does nothing (RFC 7009 section 2.2)."""
    token = world.issue(world.new_client()).access_token
    forged = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
    before = entries(world)

    for text in ("nonsense", forged, "idrt_" + "A" * 80, "a.b.c"):
        assert world.revoke(token=text)

    assert entries(world) == before
    assert world.reason(token) == ""


def test_a_token_that_expired_an_hour_ago_is_denied_all_the_same(world: World) -> None:
    """The clock of this process may be wrong. The token must stay refused when the clock is corrected."""
    issued = world.issue(world.new_client())
    world.clock.advance(hours=1)
    assert world.revoke(token=issued.access_token)

    denied = entries(world)[-1].change
    assert isinstance(denied, TokenDenied)
    assert denied.token_id == issued.token_id


def test_a_token_that_expired_long_ago_is_ok_and_writes_no_entry(world: World) -> None:
    token = world.issue(world.new_client()).access_token
    world.clock.advance(hours=37)
    before = entries(world)

    assert world.revoke(token=token)
    assert entries(world) == before


def test_unknown_ids_are_ok(world: World) -> None:
    admin = world.admin_token()

    for target in ("token_id", "session_id", "subject", "client_id"):
        assert world.revoke(admin, **{target: "unknown"})


def test_an_encrypted_token_cannot_be_revoked_by_its_text(world: World) -> None:
    with pytest.raises(grpc.RpcError) as error:
        world.revoke(token="a.b.c.d.e")

    assert failure(error.value).code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure(error.value).reason == "TOKEN_NOT_OPENABLE"
    assert "token_id" in failure(error.value).fields["token"]


@pytest.mark.parametrize(
    "target",
    [
        {"token_id": "x"},
        {"session_id": "x"},
        {"subject": "x"},
        {"client_id": "x"},
        {"everything": True},
    ],
)
def test_all_but_a_shown_token_needs_a_caller_with_the_scope(world: World, target: dict[str, Any]) -> None:
    plain = world.admin_token(scopes=["identity.verify"])

    with pytest.raises(grpc.RpcError) as nobody:
        world.revoke(**target)
    with pytest.raises(grpc.RpcError) as wrong_scope:
        world.revoke(caller=plain, **target)

    assert failure(nobody.value).reason == "CALLER_UNAUTHENTICATED"
    assert failure(nobody.value).code is grpc.StatusCode.UNAUTHENTICATED
    assert failure(wrong_scope.value).reason == "CALLER_SCOPE_MISSING"
    assert failure(wrong_scope.value).code is grpc.StatusCode.PERMISSION_DENIED
    assert world.revoke(caller=world.admin_token(), **target)


@pytest.mark.parametrize("level", ["token", "session_id", "subject", "client_id", "everything"])
def test_every_level_refuses_on_verify_and_refresh_alike(world: World, level: str) -> None:
    user = world.new_user()
    tokens, admin = world.issue(user), world.admin_token()
    targets: dict[str, dict[str, object]] = {
        "token": {"token": tokens.access_token},
        "session_id": {"session_id": tokens.session_id},
        "subject": {"subject": user.id},
        "client_id": {"client_id": "first-party"},
        "everything": {"everything": True},
    }

    world.revoke(caller=admin, **targets[level])

    assert world.reason(tokens.access_token) == "REVOKED"
    if level != "token":
        assert refused(world, tokens.refresh_token) == "SESSION_ENDED"


def test_disabling_and_deleting_a_principal_ends_its_tokens(world: World) -> None:
    client, user = world.new_client(), world.new_user()
    of_client, of_user = world.issue(client), world.issue(user)

    world.disable_client(client)
    world.store_admin.administrator.users.delete(user.id)

    assert world.reason(of_client.access_token, strong=True) == "REVOKED"
    assert world.reason(of_user.access_token, strong=True) == "REVOKED"
    for principal in (client, user):
        with pytest.raises(grpc.RpcError) as error:
            world.issue(principal)
        assert failure(error.value).reason == "CREDENTIAL_REFUSED"


def test_a_deleted_client_that_is_created_again_brings_nothing_back_to_life(world: World) -> None:
    tokens = world.issue(world.new_client())
    world.store_admin.administrator.clients.delete("reports")
    again = world.new_client()
    world.verify("x", strong=True)

    assert world.reason(tokens.access_token) == "REVOKED"
    assert world.reason(world.issue(again).access_token) == ""


def test_a_new_password_ends_the_sessions_unless_revoke_is_false(
    world: World, user_tokens: token_pb2.TokenSet
) -> None:
    users, user_id = world.store_admin.administrator.users, world.user().id
    users.set_password(user_id, Secret("another password"), revoke=False)
    assert world.reason(user_tokens.access_token, strong=True) == ""

    users.set_password(user_id, Secret("a third password"))
    assert world.reason(user_tokens.access_token, strong=True) == "REVOKED"
    assert refused(world, user_tokens.refresh_token) == "SESSION_ENDED"


def test_the_log_stays_a_chain(world: World) -> None:
    user = world.new_user()
    admin = world.admin_token()
    for _ in range(3):
        tokens = world.issue(user)
        world.revoke(token=tokens.access_token)
        world.revoke(caller=admin, subject=user.id)

    found = entries(world)

    assert [entry.position for entry in found] == list(range(1, len(found) + 1))
    assert all(one.link == next_.previous_link for one, next_ in pairwise(found))
