"""A channel whose calls carry an access token, for asyncio stubs."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import grpc.aio

from identity_client.errors import IdentityError
from identity_client.grpc._attempts import (
    AUTHORIZATION,
    Attempt,
    arguments,
    channel_credentials,
    is_authorized,
    should_repeat,
    status_without_token,
)
from identity_client.retry import AsyncTokens
from identity_client.tls import TlsOptions


def secure_channel(
    target: str,
    tokens: AsyncTokens,
    *,
    tls: TlsOptions | None = None,
    allow_plaintext: bool = False,
    options: Sequence[tuple[str, Any]] = (),
) -> grpc.aio.Channel:
    """Open an asyncio channel whose calls carry an access token; see `identity_client.grpc.secure_channel`.

    A call for which there is no token ends with `grpc.aio.AioRpcError`. If a service refuses a call while its
    messages are still being sent, grpc.aio sometimes raises INTERNAL instead of UNAUTHENTICATED
    (grpc/grpc#36066); the next call has another token all the same.
    """
    credentials = channel_credentials(target, tls, allow_plaintext=allow_plaintext)
    given = arguments(target, tls, options, allow_plaintext=allow_plaintext)
    interceptors = _interceptors(tokens)
    if credentials is None:
        return grpc.aio.insecure_channel(target, given, interceptors=interceptors)
    return grpc.aio.secure_channel(target, credentials, given, interceptors=interceptors)


def _interceptors(tokens: AsyncTokens) -> list[grpc.aio.ClientInterceptor]:
    """Return one interceptor for each kind of call.

    They are four objects: grpc.aio registers each object for one kind of call only.
    """
    return [_UnaryUnary(tokens), _UnaryStream(tokens), _StreamUnary(tokens), _StreamStream(tokens)]


class _Interceptor:
    def __init__(self, tokens: AsyncTokens) -> None:
        self._tokens = tokens

    async def _authorized(self, details: Any, attempt: Attempt) -> tuple[Any, str]:
        """Return the details of the call with a token, and the token."""
        try:
            token = await self._tokens(attempt.remaining())
        except (IdentityError, OSError) as error:
            code, text = status_without_token(error)
            raise grpc.aio.AioRpcError(
                code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=text
            ) from error
        metadata = grpc.aio.Metadata(*(details.metadata or ()), (AUTHORIZATION, f"Bearer {token}"))
        new = grpc.aio.ClientCallDetails(
            details.method, attempt.remaining(), metadata, details.credentials, details.wait_for_ready
        )
        return new, token

    async def _once(self, continuation: Any, details: Any, requests: Any) -> Any:
        """Make a call that cannot be repeated: its messages are gone. The next one has another token."""
        if is_authorized(details.metadata):
            return await continuation(details, requests)
        authorized, token = await self._authorized(details, Attempt(details.timeout))
        call = await continuation(authorized, requests)
        call.add_done_callback(lambda call: self._renew_if_refused(call, token))
        return call

    def _renew_if_refused(self, call: Any, token: str) -> None:
        """Give up the token if the service has refused it; called when grpc.aio has set the call's status.

        It reads the status at once: if a message of the call could not be sent any more, grpc.aio replaces
        the status of the service with INTERNAL a moment later (grpc/grpc#36066).
        """
        should_repeat(self._tokens, token, _without_waiting(_outcome(call)))


class _UnaryUnary(_Interceptor, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        if is_authorized(client_call_details.metadata):
            return await continuation(client_call_details, request)
        attempt = Attempt(client_call_details.timeout)
        authorized, token = await self._authorized(client_call_details, attempt)
        call = await continuation(authorized, request)
        if not should_repeat(self._tokens, token, await _ended(call)):
            return call
        try:
            authorized, _ = await self._authorized(client_call_details, attempt)
        except grpc.aio.AioRpcError:
            return call
        return await continuation(authorized, request)


class _UnaryStream(_Interceptor, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._once(continuation, client_call_details, request)


class _StreamUnary(_Interceptor, grpc.aio.StreamUnaryClientInterceptor):
    def __init__(self, tokens: AsyncTokens) -> None:
        super().__init__(tokens)
        self._ended: set[asyncio.Future[None]] = set()
        """The tasks that wait for the final status of calls which have just ended; a task lives only while
        something refers to it."""

    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._once(continuation, client_call_details, request_iterator)

    def _renew_if_refused(self, call: Any, token: str) -> None:
        """Give up the token if the service has refused it.

        In a call of this kind, grpc.aio sets INTERNAL first if a message could not be sent any more, and
        the status of the service afterwards, with the response (grpc/grpc#36066).
        """

        async def renew() -> None:
            try:
                await call
            except grpc.aio.AioRpcError as error:
                should_repeat(self._tokens, token, error)

        # Only now: a task that waited for the end of the call would keep a call alive that its caller has
        # dropped.
        task = asyncio.ensure_future(renew())
        self._ended.add(task)
        task.add_done_callback(self._ended.discard)


class _StreamStream(_Interceptor, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._once(continuation, client_call_details, request_iterator)


async def _ended(call: Any) -> Any:
    """Wait until the call has ended, and return its status; cancel it if the waiting task is cancelled."""
    try:
        return await _outcome(call)
    except asyncio.CancelledError:
        call.cancel()
        raise


async def _outcome(call: Any) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        await call.code(), grpc.aio.Metadata(), await call.trailing_metadata(), details=await call.details()
    )


def _without_waiting(outcome: Coroutine[Any, Any, grpc.aio.AioRpcError]) -> grpc.aio.AioRpcError:
    """Return the outcome of a call that has ended: its coroutine has nothing to wait for."""
    try:
        outcome.send(None)
    except StopIteration as end:
        return cast("grpc.aio.AioRpcError", end.value)
    outcome.close()
    raise RuntimeError("the call has not ended")
