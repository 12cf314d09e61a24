"""Features that only the asyncio clients have: cancellation, awaited sources, and their event loop."""

import asyncio
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

import identity_client
from identity_client import (
    AsyncIdentityClient,
    AsyncLocalVerifier,
    ClientOptions,
    IdentityClient,
    InvalidArgumentError,
    NotFreshError,
)
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from tests.clients.both_kinds import TWINS
from tests.patience import PATIENCE


class Servicer:
    """A servicer that answers Revoke at once, and Verify only after its call was cancelled."""

    def __init__(self) -> None:
        self.bearers: list[Any] = []
        self.called, self.ended = threading.Event(), threading.Event()

    def _revoke(self, request: pb.RevokeRequest, context: Any) -> pb.RevokeResponse:
        self.bearers.append(dict(context.invocation_metadata()).get("authorization"))
        return pb.RevokeResponse(revision="e.1")

    def _verify(self, request: pb.VerifyRequest, context: Any) -> pb.VerifyResponse:
        context.add_callback(self.ended.set)
        self.called.set()
        self.ended.wait(PATIENCE)
        return pb.VerifyResponse()

    Issue = VerifyBatch = Refresh = None
    Revoke, Verify = _revoke, _verify


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def target(servicer: Servicer) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    methods: Any = servicer
    rpc.add_IdentityServiceServicer_to_server(methods, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize("name", TWINS)
def test_both_kinds_of_a_client_have_the_same_methods_and_arguments(name: str) -> None:
    def surface(kind: type) -> dict[str, list[tuple[str, Any, Any]]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            method: [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]
            for method, function in methods
            if not method.startswith("_")
        }

    assert surface(TWINS[name]) == surface(getattr(identity_client, name))


def test_a_cancelled_task_cancels_its_call(servicer: Servicer, target: str) -> None:
    async def main() -> None:
        async with AsyncIdentityClient(target) as client:
            asking = asyncio.create_task(client.verify("t", any_audience=True))
            await asyncio.to_thread(servicer.called.wait, PATIENCE)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert await asyncio.to_thread(servicer.ended.wait, PATIENCE)
            assert await client.revoke_token("t") == "e.1", "the client goes on"

    asyncio.run(main())


def test_a_token_may_be_awaited_for_each_call(servicer: Servicer, target: str) -> None:
    given = iter(["one", "two", "a token with a line break\n"])

    async def bearer() -> str:
        await asyncio.sleep(0)
        return next(given)

    async def main() -> None:
        async with AsyncIdentityClient(target, options=ClientOptions(bearer=bearer)) as client:
            await client.revoke_token("t")
            await client.revoke_token("t")
            with pytest.raises(InvalidArgumentError, match="without spaces or a line break"):
                await client.revoke_token("t")

    asyncio.run(main())
    assert servicer.bearers == ["Bearer one", "Bearer two"]


def test_a_client_for_threads_refuses_a_token_that_must_be_awaited(target: str) -> None:
    async def bearer() -> str:
        return "one"

    with (
        IdentityClient(target, options=ClientOptions(bearer=bearer)) as client,
        pytest.raises(TypeError, match="for the asyncio clients only"),
    ):
        client.revoke_token("t")


def test_a_verifier_outside_an_event_loop_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"no event loop runs: .* a LocalVerifier"):
        AsyncLocalVerifier(issuer="i")


def test_a_closed_verifier_follows_no_more_and_verifies_nothing() -> None:
    async def main() -> None:
        verifier = AsyncLocalVerifier("127.0.0.1:1", issuer="i")
        await asyncio.sleep(0)
        await verifier.close()
        with pytest.raises(NotFreshError):
            verifier.verify("a.b.c", any_audience=True)
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "identity-watch"] == []

    asyncio.run(main())
