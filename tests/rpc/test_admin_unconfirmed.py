"""AdminService while the store fails or other callers write concurrently: no change is applied in part."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ids import PrincipalId
from identity_service.domain.log import GenerationRaised
from identityapi.v1 import token_pb2
from tests.patience import until
from tests.rpc.administrator import Administrator, events, fails
from tests.rpc.losing import WAYS, lose
from tests.rpc.world import Failure, World

pytestmark = pytest.mark.in_process

NEW_PASSWORD = "another horse battery staple"


@pytest.fixture(params=WAYS)
def losing(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make every change of a record fail, in each way in which writes can fail. Revocations still succeed."""
    lose(monkeypatch, world.store.records, ("create", "update", "delete"), request.param)
    way: str = request.param
    return way


def disable_user(admin: Administrator, user_id: str) -> Failure:
    mask = {"paths": ["disabled"]}
    return admin.refused("UpdateUser", user={"user_id": user_id, "disabled": True}, update_mask=mask)


def delete_user(admin: Administrator, user_id: str) -> Failure:
    return admin.refused("DeleteUser", user_id=user_id)


def set_password(admin: Administrator, user_id: str) -> Failure:
    return admin.refused("SetPassword", user_id=user_id, password=NEW_PASSWORD)


ENDING = (disable_user, delete_user, set_password)


def raised(world: World, principal: str) -> list[int]:
    found = [entry.change for entry in world.store.log.read(0, 1000).entries]
    return [c.number for c in found if isinstance(c, GenerationRaised) and c.principal == principal]


def settle(world: World) -> None:
    """Wait until no revocation is unconfirmed."""
    maintenance = world.service._replica.maintenance
    until(lambda: maintenance.unconfirmed == 0)


@pytest.fixture
def tokens(world: World) -> token_pb2.TokenSet:
    """Tokens of ana that were issued before the store failed."""
    return world.issue(world.new_user("ana"))


@pytest.mark.parametrize("end", ENDING)
def test_an_unconfirmed_change_of_a_user_revokes_tokens_here_at_once_and_everywhere_soon(
    world: World,
    admin: Administrator,
    tokens: token_pb2.TokenSet,
    losing: str,
    end: Callable[[Administrator, str], Failure],
) -> None:
    user_id = world.user().id

    found = end(admin, user_id)

    assert found.code is grpc.StatusCode.UNAVAILABLE
    assert found.reason in {"STORE_UNAVAILABLE", "NOT_CONFIRMED"}
    assert found.retry_after
    assert world.reason(tokens.access_token) == "REVOKED"
    assert fails(lambda: world.refresh(tokens.refresh_token)).reason == "SESSION_ENDED"
    settle(world)
    assert raised(world, user_id) == [1]
    assert world.store.log.generations()[PrincipalId(user_id)].number == 1


def test_a_user_that_signs_in_with_the_new_password_stays_signed_in(
    world: World, admin: Administrator, tokens: token_pb2.TokenSet, losing: str
) -> None:
    """The service resends the same raised generation. A further raise would revoke the new session, too."""
    set_password(admin, world.user().id)
    principal = world.user()
    if losing != "never arrived":
        principal.credential.password.password = NEW_PASSWORD

    later = world.issue(principal)
    settle(world)

    assert world.reason(later.access_token, strong=True) == ""
    assert world.reason(tokens.access_token) == "REVOKED"


def end_by(method: str, **fields: Any) -> Callable[[Administrator, str], object]:
    return lambda admin, user_id: admin.call(method, user_id=user_id, **fields)


def disable(admin: Administrator, user_id: str) -> object:
    user = {"user_id": user_id, "disabled": True}
    return admin.call("UpdateUser", user=user, update_mask={"paths": ["disabled"]})


@pytest.mark.parametrize("end", [disable, end_by("DeleteUser"), end_by("SetPassword", password=NEW_PASSWORD)])
def test_the_process_that_ended_something_knows_it_before_it_reads_the_log(
    world: World,
    admin: Administrator,
    tokens: token_pb2.TokenSet,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[Administrator, str], object],
) -> None:
    user_id = world.user().id
    world.verify("x", strong=True)
    monkeypatch.setattr(world.service._replica, "catch_up", lambda: None)

    end(admin, user_id)

    assert world.reason(tokens.access_token) == "REVOKED"


def test_a_change_that_ends_nothing_leaves_no_unconfirmed_revocation(
    world: World, admin: Administrator, tokens: token_pb2.TokenSet, losing: str
) -> None:
    user = {"user_id": world.user().id, "display_name": "Ana"}

    found = admin.refused("UpdateUser", user=user, update_mask={"paths": ["display_name"]})
    created = admin.refused("CreateUser", user={"username": "bo"})

    assert {found.code, created.code} == {grpc.StatusCode.UNAVAILABLE}
    assert world.service._replica.maintenance.unconfirmed == 0
    assert world.reason(tokens.access_token) == ""


def test_a_session_that_may_have_ended_has_ended_here(
    world: World, admin: Administrator, tokens: token_pb2.TokenSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: Any, **more: Any) -> None:
        raise StoreUnavailableError("cannot reach Redis")

    monkeypatch.setattr(world.store.facts, "end_session", fail)

    found = admin.refused("RevokeSessions", session_id=tokens.session_id)

    assert found.reason == "STORE_UNAVAILABLE"
    assert world.reason(tokens.access_token) == "REVOKED"


def test_of_concurrent_changes_with_one_etag_one_succeeds_and_the_others_are_aborted(
    world: World, admin: Administrator
) -> None:
    world.new_client("reports")
    etag = admin.call("GetClient", client_id="reports").client.etag

    def change(name: str) -> str:
        client = {"client_id": "reports", "display_name": name, "etag": etag}
        try:
            admin.call("UpdateClient", client=client, update_mask={"paths": ["display_name"]})
        except grpc.RpcError as error:
            return "refused" if error.code() is grpc.StatusCode.ABORTED else "?"
        return name

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(change, [f"name {number}" for number in range(8)]))

    won = [name for name in outcomes if name != "refused"]
    assert len(won) == 1
    assert admin.call("GetClient", client_id="reports").client.display_name == won[0]
    assert len([e for e in events(world, "reports") if e.type.value == "client_updated"]) == 1


def test_changes_of_different_fields_at_the_same_time_all_stand(world: World, admin: Administrator) -> None:
    world.new_client("reports")
    changes: list[tuple[str, Any]] = [
        ("display_name", "Reports"),
        ("scopes", ["a"]),
        ("audiences", ["b"]),
        ("require_binding", True),
    ]

    def change(one: tuple[str, Any]) -> None:
        field, value = one
        admin.call(
            "UpdateClient",
            client={"client_id": "reports", field: value},
            update_mask={"paths": [field]},
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, changes))

    found = admin.call("GetClient", client_id="reports").client
    assert (found.display_name, list(found.scopes), list(found.audiences), found.require_binding) == (
        "Reports",
        ["a"],
        ["b"],
        True,
    )
