"""Clients behind a trusted proxy, on both engines: their address is the one that the proxy forwards."""

from contextlib import closing
from typing import Any

import grpc
import pytest

from identity_service.domain.audit import AuditFilter
from identity_service.domain.ids import PrincipalId
from identityapi.v1 import admin_service_pb2 as admin_pb
from identityapi.v1 import admin_service_pb2_grpc as admin_rpc
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2
from identityapi.v1 import trust_service_pb2 as trust_pb
from identityapi.v1 import trust_service_pb2_grpc as trust_rpc
from tests.patience import PATIENCE, until
from tests.rpc import raw_http2
from tests.rpc.administrator import fails
from tests.rpc.conftest import StartWorld
from tests.rpc.world import World, password

CLIENT, OTHER = "203.0.113.7", "2001:db8::7"
PROXY = ("127.0.0.1/32",)
ISSUE = "/identityapi.v1.IdentityService/Issue"


def sent(forwarded: str | None) -> tuple[tuple[str, str], ...]:
    return () if forwarded is None else (("x-forwarded-for", forwarded),)


def session_peer(world: World, forwarded: str | None) -> str:
    """Sign a new user in; return the address of the client that the store has for the session."""
    request = pb.IssueRequest(credential=world.new_user().credential)
    world.stub.Issue(request, metadata=sent(forwarded))
    (session,) = world.store.sessions.list_of(PrincipalId(world.user().id))
    return session.peer


@pytest.mark.parametrize(
    ("forwarded", "peer"),
    [
        (CLIENT, f"{CLIENT}:0"),
        (f"198.51.100.1, {CLIENT}:443", f"{CLIENT}:443"),
        (f"nonsense, {OTHER}, 127.0.0.1", f"[{OTHER}]:0"),
    ],
)
def test_a_session_has_the_address_that_the_proxy_forwards(
    start_world: StartWorld, forwarded: str, peer: str
) -> None:
    assert session_peer(start_world(trusted_proxies=PROXY), forwarded) == peer


@pytest.mark.parametrize("forwarded", [None, "nonsense", f"{CLIENT}, unknown", ""])
def test_if_it_forwards_no_address_a_session_has_that_of_the_proxy(
    start_world: StartWorld, forwarded: str | None
) -> None:
    assert session_peer(start_world(trusted_proxies=PROXY), forwarded).startswith("127.0.0.1:")


@pytest.mark.parametrize("proxies", [(), ("127.0.0.2", "10.0.0.0/8", "::1")])
def test_a_peer_that_is_no_trusted_proxy_is_not_believed(
    start_world: StartWorld, proxies: tuple[str, ...]
) -> None:
    assert session_peer(start_world(trusted_proxies=proxies), CLIENT).startswith("127.0.0.1:")


def test_a_client_that_sends_an_address_that_is_not_ascii_does_not_hide_its_own(
    start_world: StartWorld,
) -> None:
    """Proxies append the real address to what the client sent, which can be invalid (here not ASCII)."""
    world = start_world(trusted_proxies=PROXY)
    message = pb.IssueRequest(credential=world.new_user().credential).SerializeToString()
    headers = [("x-forwarded-for", f"\u00fc, {CLIENT}")]

    raw_http2.call(world.target, ISSUE, b"\0" + len(message).to_bytes(4, "big") + message, headers=headers)

    (session,) = world.store.sessions.list_of(PrincipalId(world.user().id))
    assert session.peer == f"{CLIENT}:0"


def test_a_refused_call_is_recorded_with_the_forwarded_address(start_world: StartWorld) -> None:
    world = start_world(trusted_proxies=PROXY, audit_traffic="store")
    stub = admin_rpc.AdminServiceStub(world.channel)

    fails(lambda: stub.ListClients(admin_pb.ListClientsRequest(), metadata=sent(CLIENT)))

    refused = AuditFilter(types=["call_refused"])
    until(lambda: bool(world.store.audit.list_newest(refused)[0]))
    assert world.store.audit.list_newest(refused)[0][0].event.peer == f"{CLIENT}:0"


def test_wrong_passwords_from_one_client_do_not_hold_up_another(start_world: StartWorld) -> None:
    world = start_world(trusted_proxies=PROXY, attempts_per_username=1)
    right = world.new_user().credential

    def reason(credential: token_pb2.Credential, forwarded: str) -> str:
        request = pb.IssueRequest(credential=credential)
        return fails(lambda: world.stub.Issue(request, metadata=sent(forwarded))).reason

    assert reason(password("ana", "wrong"), CLIENT) == "CREDENTIAL_REFUSED"
    assert reason(right, CLIENT) == "TOO_MANY_ATTEMPTS"
    assert world.stub.Issue(pb.IssueRequest(credential=right), metadata=sent(OTHER)).token_set.access_token


@pytest.mark.parametrize("forwarded", [CLIENT, "nonsense"])
@pytest.mark.parametrize("bound", ["max_calls_per_peer", "max_watchers_per_peer"])
def test_a_client_behind_a_proxy_has_bounds_of_its_own(
    start_world: StartWorld, bound: str, forwarded: str
) -> None:
    """A call counts toward the limits of the client that the proxy names.

    The proxy's own calls are exempt from the limits, but a call with an invalid forwarded address is not.
    """
    world = start_world(trusted_proxies=PROXY, **{bound: 1})
    stub = trust_rpc.TrustServiceStub(world.channel)

    def watch(forwarded: str | None) -> Any:
        return stub.Watch(trust_pb.WatchRequest(), metadata=sent(forwarded), timeout=PATIENCE)

    with closing(_Open(watch(forwarded))):
        assert fails(lambda: next(watch(forwarded))).reason == "SERVER_BUSY"
        for other in (OTHER, None):
            with closing(_Open(watch(other))):
                pass


class _Open:
    """A stream of Watch that the service has admitted, until it is closed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        next(stream)

    def close(self) -> None:
        self._stream.cancel()


def test_a_forwarded_certificate_proves_nothing(start_world: StartWorld) -> None:
    world = start_world(trusted_proxies=PROXY)
    world.new_client(certificates=("dns:reports.example",))
    credential = token_pb2.Credential(client_certificate=token_pb2.ClientCertificate())
    metadata = (*sent(CLIENT), ("x-forwarded-client-cert", 'DNS=reports.example;Cert="x"'))

    refused = fails(lambda: world.stub.Issue(pb.IssueRequest(credential=credential), metadata=metadata))

    assert refused.code is grpc.StatusCode.UNAUTHENTICATED
