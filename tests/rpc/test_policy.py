"""The policy: every method of every service with each kind of principal, refused or let through.

The table of this module is written by hand from the contract, not taken from the table of the service.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from identity_service.grpc_api.ext_authz.wire import auth_pb2
from identityapi.v1 import admin_service_pb2, identity_service_pb2, trust_service_pb2
from tests.patience import PATIENCE
from tests.rpc.conftest import StartWorld
from tests.rpc.world import World, bearer, failure

SERVICE_AUDIENCE: Final = "identity-service"
MODULES: Final = (identity_service_pb2, trust_service_pb2, admin_service_pb2, auth_pb2)

ANYBODY: Final = frozenset(
    {"nobody", "user", "client", "verifier", "revoker", "admin", "other-audience", "garbage", "disabled"}
)
PROVEN: Final = frozenset({"user", "client", "verifier", "revoker", "admin"})
VERIFIERS: Final = frozenset({"verifier"})
EXPECTED: Final = {
    "Issue": ANYBODY,
    "Refresh": ANYBODY,
    "Verify": VERIFIERS,
    "VerifyBatch": VERIFIERS,
    "Check": VERIFIERS,
    "GetKeys": VERIFIERS,
    "Watch": VERIFIERS,
    "Revoke": frozenset({"revoker"}),
    "ListSessions": PROVEN,
    "RevokeSessions": PROVEN,
}
"""The kinds of principals that may call each method. A method that is not listed is for administrators
only."""
ADMINISTRATORS: Final = frozenset({"admin"})

REQUESTS: Final[dict[str, Message]] = {
    "Revoke": identity_service_pb2.RevokeRequest(session_id="s"),
    "RevokeSessions": admin_service_pb2.RevokeSessionsRequest(session_id="s"),
    "TailAuditEvents": admin_service_pb2.TailAuditEventsRequest(resume_after="0"),
}
"""The requests of methods that cannot be called with an empty request: it would be refused before the caller
is checked, or would get no answer."""


def methods() -> list[tuple[str, Any]]:
    return [
        (f"/{service.full_name}/{method.name}", method)
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


@pytest.fixture
def world(start_world: StartWorld) -> World:
    return start_world(require_caller_auth=True)


@pytest.fixture
def callers(world: World) -> dict[str, tuple[tuple[str, str], ...]]:
    """The metadata of a caller of each kind of principal."""
    audiences = (SERVICE_AUDIENCE,)

    def scoped(client_id: str, *scopes: str) -> str:
        principal = world.new_client(client_id, audiences=audiences, scopes=scopes)
        return world.issue(principal, scopes=scopes).access_token

    user = world.issue(world.new_user("ana", audiences=audiences), audiences=audiences)
    elsewhere = world.new_client("elsewhere", audiences=("api",), scopes=("identity.admin",))
    disabled = world.new_client("gone", audiences=audiences, scopes=("identity.admin",))
    gone = world.issue(disabled, scopes=("identity.admin",)).access_token
    world.revoke(world.admin_token(("identity.revoke",)), client_id="gone")
    return {
        "nobody": (),
        "garbage": bearer("no.such.token"),
        "user": bearer(user.access_token),
        "client": bearer(scoped("plain", "read")),
        "verifier": bearer(scoped("checks", "identity.verify")),
        "revoker": bearer(scoped("revokes", "identity.revoke")),
        "admin": bearer(scoped("rules", "identity.admin")),
        "other-audience": bearer(world.issue(elsewhere, scopes=("identity.admin",)).access_token),
        "disabled": bearer(gone),
    }


def outcome(world: World, name: str, method: Any, metadata: Any) -> str:
    """Return the status code if the policy refuses the caller, and otherwise `let through`.

    A call that fails for another reason counts as let through.
    """
    request = REQUESTS.get(method.name) or GetMessageClass(method.input_type)()
    call: Callable[..., Any] = (
        world.channel.unary_stream if method.server_streaming else world.channel.unary_unary
    )(name, request_serializer=lambda m: m.SerializeToString(), response_deserializer=bytes)
    try:
        answer = call(request, metadata=metadata, timeout=PATIENCE)
        if isinstance(answer, Iterator):
            next(answer)
            answer.cancel()  # type: ignore[attr-defined]  # a grpc.Call too
    except grpc.RpcError as error:
        said = failure(error)
        if said.reason in ("CALLER_UNAUTHENTICATED", "CALLER_SCOPE_MISSING", "METHOD_NOT_ALLOWED"):
            return str(said.code.name)
    return "let through"


def test_exactly_those_are_let_through_that_the_contract_names(
    world: World, callers: dict[str, tuple[tuple[str, str], ...]]
) -> None:
    unproven = {"nobody", "garbage", "other-audience", "disabled"}
    found, wanted = {}, {}
    for name, method in methods():
        may = EXPECTED.get(method.name, ADMINISTRATORS)
        for caller, metadata in callers.items():
            refused = "UNAUTHENTICATED" if caller in unproven else "PERMISSION_DENIED"
            wanted[method.name, caller] = "let through" if caller in may else refused
            found[method.name, caller] = outcome(world, name, method, metadata)

    assert found == wanted
    assert len(found) == len(methods()) * len(callers)


def test_if_callers_need_not_authenticate_only_verifying_is_open(
    start_world: StartWorld,
) -> None:
    world = start_world(require_caller_auth=False)

    open_ = {m.name for name, m in methods() if outcome(world, name, m, ()) == "let through"}

    assert open_ == {"Issue", "Refresh", "Verify", "VerifyBatch", "Check", "GetKeys", "Watch"}


def test_the_holder_of_a_token_may_revoke_it_and_nothing_else(world: World) -> None:
    tokens = world.issue(world.new_user("bo"))
    other = world.issue(world.new_client("c")).token_id

    world.revoke(token=tokens.access_token)

    with pytest.raises(grpc.RpcError) as error:
        world.revoke(tokens.access_token, token_id=other)
    assert failure(error.value).code is grpc.StatusCode.UNAUTHENTICATED
