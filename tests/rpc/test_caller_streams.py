"""Streams of authenticated callers: the service ends them when the caller is revoked."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest

from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Client
from identityapi.v1 import admin_service_pb2 as admin_pb
from identityapi.v1 import admin_service_pb2_grpc as admin_rpc
from identityapi.v1 import trust_service_pb2 as trust_pb
from identityapi.v1 import trust_service_pb2_grpc as trust_rpc
from tests.patience import PATIENCE
from tests.rpc.administrator import fails
from tests.rpc.world import Principal, World, bearer
from tests.tls import Certifier

REVOKED = (grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED")


def tail(world: World, token: str) -> Any:
    """Start to follow the audit events; return once the stream will deliver every later event."""
    stream = admin_rpc.AdminServiceStub(world.channel).TailAuditEvents(
        admin_pb.TailAuditEventsRequest(), metadata=bearer(token), timeout=PATIENCE
    )
    stream.initial_metadata()
    return stream


def revoke_token(world: World, _: Principal, token: str) -> None:
    world.revoke(token=token)


def disable(world: World, auditor: Principal, _: str) -> None:
    world.disable_client(auditor)


@pytest.mark.parametrize("revoke", [revoke_token, disable])
def test_a_stream_ends_when_its_caller_is_revoked_and_others_go_on(
    world: World, revoke: Callable[[World, Principal, str], None]
) -> None:
    auditor = world.new_client("auditor", scopes=("identity.admin",), audiences=("identity-service",))
    token = world.issue(auditor, scopes=["identity.admin"]).access_token
    ended, other = tail(world, token), tail(world, world.admin_token(["identity.admin"]))

    revoke(world, auditor, token)
    failed = fails(lambda: list(ended))

    assert (failed.code, failed.reason) == REVOKED
    assert next(other).events  # it follows still
    other.cancel()


def test_a_stream_goes_on_when_the_token_of_its_caller_has_expired(world: World) -> None:
    """The token is checked when a stream begins. Its expiry later does not end the stream."""
    stream = tail(world, world.admin_token(["identity.admin"]))

    world.clock.advance(minutes=20)
    world.service._apis.server.end_revoked()
    world.new_client("later")

    assert any(event.target == "later" for answer in stream for event in answer.events)
    stream.cancel()


def test_a_stream_ends_when_the_client_of_its_certificate_loses_the_scope(
    mutual: World, certifier: Certifier
) -> None:
    mutual.new_client("watcher", certificates=("dns:w.example",), scopes=("identity.verify",))
    clients = mutual.store_admin.administrator.clients
    with certifier.channel(mutual.target, certifier.client("w", "w.example")) as channel:
        world = replace(mutual, channel=channel)
        stream = trust_rpc.TrustServiceStub(world.channel).Watch(trust_pb.WatchRequest(), timeout=PATIENCE)
        next(stream)

        clients.update(Client(client_id=PrincipalId("watcher"), scopes=frozenset({"read"})), ["scopes"])
        failed = fails(lambda: list(stream))

    assert (failed.code, failed.reason) == REVOKED
