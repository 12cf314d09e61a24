"""The guard beside other interceptors: it checks the metadata that they pass on.

The error for a guard of the wrong kind says which one to use.
"""

import asyncio
import logging
from typing import Any

import grpc
import pytest

from identity_client import LocalVerifier
from identity_client.grpc import Guard, Policy
from identity_client.grpc.aio import Guard as AioGuard
from tests.clients.guard import reports as services
from tests.clients.guard.conftest import ENTRIES
from tests.clients.guard.refusals import Refused, bearer, refusal
from tests.clients.guard.reports import name
from tests.clients.guard.site import AUDIENCE, Site


class Adding(grpc.ServerInterceptor):
    """An interceptor that adds a token from elsewhere to the metadata of a call."""

    def __init__(self, token: str) -> None:
        self._values = bearer(token)

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return continuation(self.changed(handler_call_details))

    def changed(self, details: Any) -> Any:
        return type(details)(details.method, tuple(self._values))


class AddingInLoop(grpc.aio.ServerInterceptor):
    """An interceptor for asyncio that adds a token from elsewhere to the metadata of a call."""

    def __init__(self, token: str) -> None:
        self._adding = Adding(token)

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return await continuation(self._adding.changed(handler_call_details))


@pytest.mark.parametrize(
    ("serve", "guard", "adding"),
    [(services.threaded, Guard, Adding), (services.in_loop, AioGuard, AddingInLoop)],
)
def test_the_metadata_that_an_interceptor_before_the_guard_passes_on_is_checked(
    site: Site, verifier: LocalVerifier, serve: Any, guard: Any, adding: Any
) -> None:
    ana, before = site.users["ana"].id.encode(), [adding(site.token("ana"))]

    with serve(lambda: guard(verifier, Policy(AUDIENCE, ENTRIES)), before=before) as client:
        assert client.call("Get", ()) == [ana]
        assert client.call("Follow", bearer(site.token("bo")), b"2") == [ana] * 2


def test_a_server_with_threads_refuses_all_calls_if_its_guard_is_that_of_asyncio(
    site: Site, verifier: LocalVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = bearer(site.token())

    with (
        services.threaded(lambda: AioGuard(verifier, Policy(AUDIENCE, ENTRIES))) as client,
        caplog.at_level(logging.ERROR, "identity_client.guard"),
    ):
        for method in ("Get", "Total", "Follow", "Chat", "Hours", name("Unlisted")):
            assert refusal(client.call, method, metadata) == Refused("INTERNAL", "INTERNAL")

    assert [record.message for record in caplog.records] == [
        "every call is refused: this Guard is for grpc.aio.server; give grpc.server the Guard of "
        "identity_client.grpc"
    ]


def test_a_server_of_asyncio_cannot_be_made_with_the_guard_for_threads(verifier: LocalVerifier) -> None:
    guard: Any = Guard(verifier, Policy(AUDIENCE, ENTRIES))

    async def serve(*interceptors: Any) -> None:
        grpc.aio.server(interceptors=interceptors)

    with pytest.raises(TypeError, match="the Guard of identity_client"):
        asyncio.run(serve(guard))
    asyncio.run(serve(AddingInLoop("")))
