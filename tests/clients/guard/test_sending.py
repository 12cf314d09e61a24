"""A call in an event loop whose token is revoked while a message is being sent ends after that message."""

import asyncio
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from identity_client import LocalVerifier
from identity_client.grpc.aio import Guard, Policy
from tests.clients.guard.reports import name
from tests.clients.guard.site import AUDIENCE, READ, Site
from tests.patience import PATIENCE, until

METHOD = name("Follow")


class AbortError(Exception):
    """Stands for the error that gRPC raises in a handler that aborts its call."""


class Context:
    """The context of a call; its first message is being sent until the test says otherwise."""

    def __init__(self) -> None:
        self.sending, self.arrive = asyncio.Event(), asyncio.Event()
        self.was_interrupted = False
        self.status: tuple[grpc.StatusCode, str] | None = None

    async def write(self, _: bytes) -> None:
        self.sending.set()
        try:
            await self.arrive.wait()
        except asyncio.CancelledError:
            self.was_interrupted = True
            raise

    async def abort(self, code: grpc.StatusCode, details: str, _: Any) -> None:
        await asyncio.sleep(0)  # where a task that is still to be cancelled would be
        self.status = code, details
        raise AbortError

    def trailing_metadata(self) -> tuple[()]:
        return ()


async def own(request: bytes, context: Any) -> None:
    await context.write(b"1")
    await asyncio.Event().wait()


async def generated(request: bytes, context: Any) -> Any:
    yield b"1"
    await asyncio.Event().wait()


async def in_another_task(request: bytes, context: Any) -> None:
    task = asyncio.create_task(context.write(b"1"))
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("handler", [own, generated, in_another_task])
def test_a_message_on_its_way_is_not_interrupted(site: Site, verifier: LocalVerifier, handler: Any) -> None:
    tokens = site.sign_in()

    async def follow() -> Context:
        guard = Guard(verifier, Policy(AUDIENCE, {METHOD: [READ]}))
        details: Any = SimpleNamespace(
            method=METHOD, invocation_metadata=(("authorization", f"Bearer {tokens.access_token}"),)
        )
        make: Any = grpc.unary_stream_rpc_method_handler

        async def continuation(_: Any) -> Any:
            return make(handler)

        guarded: Any = await guard.intercept_service(continuation, details)
        context = Context()
        task = asyncio.create_task(guarded.unary_stream(b"", context))
        await context.sending.wait()
        await asyncio.to_thread(site.revoke, lambda to: to.revoke_token_id(tokens.token_id))
        await asyncio.to_thread(until, lambda: guard._calls.sizes()[0] == 0)
        await asyncio.sleep(0)
        context.arrive.set()
        with pytest.raises(AbortError):
            await asyncio.wait_for(task, PATIENCE)
        return context

    context = asyncio.run(follow())
    assert not context.was_interrupted
    assert context.status is not None
    assert context.status[0] is grpc.StatusCode.UNAUTHENTICATED
