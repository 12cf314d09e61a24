"""The table of errors in the gRPC API: each row can occur, and each class of errors has a row."""

from collections.abc import Iterator

import grpc
import pytest

from identity_client.errors import to_error
from identity_service.domain import errors
from identity_service.domain.sessions import MAX_ROTATIONS_IN_WINDOW
from identity_service.grpc_api.errors import STATUS_OF, status_code, to_status
from identity_shared.token_ids import hash_token_id, unverified_token_id
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1.error_reason_pb2 import ErrorReason
from tests.rpc.world import Failure, World, client_secret, failure, password


def subclasses(kind: type[errors.IdentityError]) -> Iterator[type[errors.IdentityError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def issue_refused(world: World, credential: object, **fields: object) -> Failure:
    with pytest.raises(grpc.RpcError) as error:
        world.stub.Issue(pb.IssueRequest(credential=credential, **fields))  # type: ignore[arg-type]
    return failure(error.value)


@pytest.mark.parametrize("kind", list(subclasses(errors.IdentityError)))
def test_every_error_has_a_row_and_a_documented_reason(kind: type[errors.IdentityError]) -> None:
    assert any(base in STATUS_OF for base in kind.__mro__)
    assert f"ERROR_REASON_{kind.reason}" in ErrorReason.keys()  # noqa: SIM118  # an enum wrapper is no dict


def test_an_unknown_error_is_opaque() -> None:
    status = to_status(ValueError("secret value"), "r1")

    assert status.code is grpc.StatusCode.INTERNAL
    assert "secret" not in status.details
    assert b"secret" not in dict(status.trailing_metadata)["grpc-status-details-bin"]
    assert status_code(KeyError()) is grpc.StatusCode.INTERNAL


def test_every_wrong_credential_gets_the_same_answer(world: World) -> None:
    client = world.new_client()
    world.new_user()
    world.disable_user(world.new_user("bea"))
    world.disable_client(world.new_client("off"))

    found = [
        issue_refused(world, credential)
        for credential in (
            client_secret(client.id, "wrong"),
            client_secret("nobody", "wrong"),
            client_secret("off", "wrong"),
            client_secret("first-party", "wrong"),
            password("ana", "wrong"),
            password("nobody", "wrong"),
            password("bea"),
            password("ana", client_id="nobody"),
        )
    ]

    assert {(f.code, f.reason, f.message) for f in found} == {
        (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_REFUSED", "the credential was refused")
    }


def test_an_audience_or_scope_that_the_principal_may_not_have(world: World) -> None:
    client = world.new_client()

    audience = issue_refused(world, client.credential, audiences=["files"])
    scope = issue_refused(world, client.credential, scopes=["delete"])
    own = issue_refused(world, client.credential, scopes=["identity.admin"])

    assert {f.code for f in (audience, scope, own)} == {grpc.StatusCode.PERMISSION_DENIED}
    assert audience.reason == "AUDIENCE_NOT_ALLOWED"
    assert scope.reason == own.reason == "SCOPE_NOT_ALLOWED"


def test_a_grant_that_the_client_may_not_use(world: World) -> None:
    portal = world.new_confidential_app()
    reports = world.new_client()
    world.new_user()
    secret = reports.credential.client_secret.client_secret

    by_secret = issue_refused(world, portal.credential)
    by_password = issue_refused(world, password("ana", client_id=reports.id, secret=secret))

    assert by_secret.code is by_password.code is grpc.StatusCode.PERMISSION_DENIED
    assert by_secret.reason == by_password.reason == "GRANT_NOT_ALLOWED"


def test_a_refused_token_of_a_caller_is_named_by_the_hash_of_its_id(world: World) -> None:
    token = world.admin_token()
    world.revoke(world.admin_token(), token_id=unverified_token_id(token))

    found = []
    for caller in (token, "unreadable"):
        with pytest.raises(grpc.RpcError) as error:
            world.revoke(caller, token_id="another")
        found.append(to_error(error.value))

    assert {each.code for each in found} == {grpc.StatusCode.UNAUTHENTICATED}
    named = hash_token_id(unverified_token_id(token))
    assert [each.token_id_sha256 for each in found] == [named, ""]


def test_too_many_passwords_at_once_say_when_to_come_again(world: World) -> None:
    """If the queue of password checks is full, the call fails at once with RetryInfo."""
    world.new_user()
    places = world.settings.password_processes + world.settings.password_queue
    hasher = world.service._hasher
    for _ in range(places):
        hasher._enter()

    found = issue_refused(world, password("ana"))

    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER_BUSY")
    assert found.retry_after is not None
    assert found.retry_after > 0
    for _ in range(places):
        hasher._leave()
    assert world.stub.Issue(pb.IssueRequest(credential=password("ana"))).token_set.access_token


def test_a_session_that_rotates_too_often_has_to_wait(world: World) -> None:
    token = world.issue(world.new_user()).refresh_token
    for _ in range(MAX_ROTATIONS_IN_WINDOW):
        token = world.refresh(token).refresh_token

    with pytest.raises(grpc.RpcError) as error:
        world.refresh(token)

    found = failure(error.value)
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_ATTEMPTS")
    assert found.retry_after is not None
    world.clock.advance(seconds=61)
    assert world.refresh(token).refresh_token
