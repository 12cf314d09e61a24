"""Guards of both kinds, tested without the service in this process, so that `make test-oldest` can run it.

The tests in `guard/` cover everything else about guards.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Final

import grpc
import pytest

from identity_client import LocalVerifier
from identity_client.grpc import Guard, Policy
from identity_client.grpc.aio import Guard as AioGuard
from identity_client.testing import ServiceUnderTest, service_process
from tests.clients.guard import reports as services
from tests.clients.guard.reports import Client, name
from tests.patience import PATIENCE

PYTHON: Final = os.environ.get("TESTS_SERVER_PYTHON", sys.executable)
KINDS: Final[dict[str, Any]] = {
    "threads": (services.threaded, Guard),
    "asyncio": (services.in_loop, AioGuard),
}
POLICY: Final = Policy("reports", {name("*"): ["reports.read"]})
METHODS: Final = ("Get", "Total", "Follow", "Chat")


@pytest.fixture(scope="module")
def identity() -> Iterator[ServiceUnderTest]:
    with service_process(python=PYTHON) as running:
        running.create_client("ana", audiences=["reports"], scopes=["reports.read", "reports.admin"])
        yield running


@pytest.fixture(scope="module")
def verifier(identity: ServiceUnderTest) -> Iterator[LocalVerifier]:
    staleness = timedelta(seconds=PATIENCE)
    with LocalVerifier(identity.target, issuer=identity.issuer, max_staleness=staleness) as verifier:
        verifier.wait_ready(staleness)
        yield verifier


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, verifier: LocalVerifier) -> Iterator[Client]:
    serve, guard = KINDS[request.param]
    serving: AbstractContextManager[Client] = serve(lambda: guard(verifier, POLICY))
    with serving as client:
        yield client


def bearer(identity: ServiceUnderTest, *scopes: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {identity.client_token('ana', audience='reports', scopes=scopes)}")]


def refusal(call: Callable[..., object], *arguments: object) -> str:
    """Return the name of the status of a refused call; fail the test if it succeeds."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return str(caught.value.code().name)


@pytest.mark.parametrize("method", METHODS)
def test_a_call_of_each_kind_is_admitted_by_its_token_alone(
    client: Client, identity: ServiceUnderTest, method: str
) -> None:
    [answer] = client.call(method, bearer(identity, "reports.read"), b"1")
    assert answer.split()[0] == b"ana"
    assert refusal(client.call, method, bearer(identity, "reports.admin")) == "PERMISSION_DENIED"
    assert refusal(client.call, method, ()) == "UNAUTHENTICATED"
    assert refusal(client.call, "/other.v1.Other/Get", bearer(identity)) == "PERMISSION_DENIED"


def test_a_stream_ends_when_its_token_is_revoked(client: Client, identity: ServiceUnderTest) -> None:
    metadata = bearer(identity)
    stream = client.stub("Endless")(b"", metadata=metadata, timeout=PATIENCE)
    next(stream)

    identity.revoker.revoke_token(metadata[0][1].partition(" ")[2])

    # A handler with threads that sends no message for 100 ms is cancelled.
    assert refusal(list, stream) in ("UNAUTHENTICATED", "CANCELLED")
    assert refusal(client.call, "Get", metadata) == "UNAUTHENTICATED"


def test_a_guard_of_the_wrong_kind_is_noticed(verifier: LocalVerifier, identity: ServiceUnderTest) -> None:
    with services.threaded(lambda: AioGuard(verifier, POLICY)) as client:
        assert refusal(client.call, "Get", bearer(identity)) == "INTERNAL"

    async def serve(guard: Any) -> None:
        grpc.aio.server(interceptors=[guard])

    with pytest.raises(TypeError, match="this Guard is for grpc"):
        asyncio.run(serve(Guard(verifier, POLICY)))
