"""The guard of a gRPC server in an event loop (`grpc.aio.server`)."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from functools import cached_property, partial
from typing import Any, Final, NoReturn

import grpc

from identity_client.admission import Admission, AskError, Observe
from identity_client.asking import Asked, AsyncAsked, AsyncAsking, check_ask
from identity_client.async_calls import AsyncCalls, AsyncOpenCall
from identity_client.caller import Caller, current
from identity_client.grpc import _guard
from identity_client.grpc._certificates import certificate_sha256
from identity_client.grpc._handlers import Handler, UnaryHandler
from identity_client.policy import Policy, Requirement
from identity_client.refusal import DETAILS, RefusedError, failed
from identity_client.verifier_core import VerifierCore

_log: Final = logging.getLogger("identity_client.guard")
_IN_LOOP: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
"""The flags of the code of coroutine functions and of asynchronous generators."""


Context = grpc.aio.ServicerContext[Any, Any]


class Guard(grpc.aio.ServerInterceptor):
    """An interceptor that lets no call through that the policy and the caller's token do not allow.

    server = grpc.aio.server(interceptors=[Guard(verifier, policy)])

    Put it first, so that no other interceptor sees calls that are refused. Calls with a stream of requests or
    responses end with UNAUTHENTICATED when their token is revoked or expires; the task of their handler is
    cancelled. Handlers must be coroutine functions or asynchronous generators.
    """

    def __init__(
        self,
        verifier: VerifierCore,
        policy: Policy,
        *,
        ask: Asked | AsyncAsked | None = None,
        observe: Observe | None = None,
    ) -> None:
        """Create a guard.

        Args:
            verifier: verifies the tokens, an `AsyncLocalVerifier` or a `LocalVerifier`; the caller closes it,
                after the server has stopped.
            policy: the token that each method needs.
            ask: the client that asks the service while the verifier is stale, for methods with `ASK`.
            observe: a function that counts what the guard does: it is called with `admitted` and "", with
                `refused` and the reason, and, when a token ends an open call, with `ended` and the reason. It
                runs in the thread or task of the call, so it must not block.

        Raises PolicyError if the policy says `ASK`, and there is no client for it; TypeError if `verifier` or
        `policy` is something else.
        """
        if not callable(getattr(policy, "requirement", None)):
            raise TypeError(f"a guard needs Policy(...) as its policy, not {type(policy)}")
        check_ask(asks=policy.asks, given=ask is not None)
        self._policy = policy
        self._admission = Admission(verifier, observe, certificate_sha256)
        self._asking = AsyncAsking(self._admission, ask)
        self._calls = AsyncCalls(verifier, self._admission.note)

    @property
    def stale_calls(self) -> Mapping[str, int]:
        """Return how many calls found the verifier stale: `refused`, `asked` and `allowed`."""
        return self._admission.stale_calls

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Coroutine[Any, Any, Handler | None]:
        """Return the handler of a call, behind the check of its caller."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._handler_for_threads  # type: ignore[no-any-return]
        return self._intercept(continuation, handler_call_details)

    @cached_property
    def _handler_for_threads(self) -> Any:
        """The handler that refuses each call of a `grpc.server`, which would hang with a coroutine."""
        _log.error(
            "every call is refused: this Guard is for grpc.aio.server; give grpc.server the Guard of "
            "identity_client.grpc"
        )
        return _guard.refusing(failed())

    async def _intercept(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        try:
            requirement = self._policy.requirement(details.method)
        except Exception:  # noqa: BLE001  # whatever failed, the call is refused
            return _refusing(self._admission.policy_failed())
        if requirement is None:
            return _refusing(self._admission.without_entry(details.method))
        handler = await continuation(details)
        if handler is None or requirement.public:
            return handler
        values = [value for key, value in details.invocation_metadata if key == _guard.AUTHORIZATION]
        if handler.request_streaming or handler.response_streaming:
            return self._with_streams(handler, requirement, values)
        inner: Any = handler.unary_unary
        if not _runs_in_loop(inner):
            return _refusing(failed())
        return _UnaryHandler(self._admission, self._asking, handler, requirement, values)

    def _with_streams(self, handler: Handler, requirement: Requirement, values: list[str | bytes]) -> Handler:
        """Return the handler of a call with a stream, behind the check of its caller."""
        inner: Any
        make: Any
        if not handler.response_streaming:
            inner, make = handler.stream_unary, grpc.stream_unary_rpc_method_handler
            handle = inner
        else:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            handle = partial(_respond, inner)
        if not _runs_in_loop(inner):
            return _refusing(failed())
        behavior = partial(self._stream, handle, requirement, values, handler.request_streaming)
        return make(behavior, handler.request_deserializer, handler.response_serializer)  # type: ignore[no-any-return]

    async def _admit(self, requirement: Requirement, values: list[str | bytes], context: Context) -> Caller:
        """Return the caller. Raises RefusedError."""
        try:
            return self._admission.admit(requirement, values, context)
        except AskError as error:
            return await self._asking.ask(error.question)

    async def _stream(
        self,
        handle: Callable[[Any, Context], Awaitable[Any]],
        requirement: Requirement,
        values: list[str | bytes],
        streams_requests: bool,
        request: Any,
        context: Context,
    ) -> Any:
        """Handle a call with a stream, until its token ends it."""
        try:
            caller = await self._admit(requirement, values, context)
        except RefusedError as refused:
            return await _abort(context, refused)
        call = AsyncOpenCall(caller)
        checked: Any = _CheckedContext(context, call)
        requests = _checked(request, call) if streams_requests else request
        restore = current.set(caller)
        try:
            self._calls.add(call)
            response = await handle(requests, checked)
            call.check()
        except RefusedError as error:
            refusal = error
        except asyncio.CancelledError:
            if not call.has_ended() or call.refusal is None:
                raise
            refusal = call.refusal
        except Exception:
            if call.refusal is None:
                raise
            refusal = call.refusal  # the handler raised something else because its call has ended
        else:
            return response
        finally:
            self._calls.remove(call)
            current.reset(restore)
        return await _abort(context, refusal)


class _UnaryHandler(UnaryHandler):
    """The handler of one call with one request and one response, behind the check of its caller."""

    async def unary_unary(self, request: Any, context: Any) -> Any:
        """Handle the call."""
        try:
            try:
                caller = self._admission.admit(self._requirement, self._values, context)
            except AskError as error:
                caller = await self._asking.ask(error.question)
            restore = current.set(caller)
            try:
                return await self._inner(request, context)
            finally:
                current.reset(restore)
        except RefusedError as error:
            refusal = error
        return await _abort(context, refusal)


class _CheckedContext:
    """The context of a call with a stream, which passes no message after its token has ended the call."""

    def __init__(self, context: Context, call: AsyncOpenCall) -> None:
        self._context = context
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        self._call.check()
        request = await self._context.read()
        self._call.check()
        return request

    async def write(self, message: Any) -> None:
        await self._call.send(self._context.write, message)

    async def send_initial_metadata(self, metadata: Any) -> None:
        await self._call.send(self._context.send_initial_metadata, metadata)


async def _checked(requests: AsyncIterator[Any], call: AsyncOpenCall) -> AsyncIterator[Any]:
    """Return the requests, until the token ends the call."""
    async for request in requests:
        call.check()
        yield request


async def _respond(inner: Callable[[Any, Context], Any], request: Any, context: Context) -> None:
    """Handle a call with a stream of responses, whether its handler writes or returns them."""
    if not inspect.isasyncgenfunction(inner):
        await inner(request, context)
        return
    async with aclosing(inner(request, context)) as responses:
        async for response in responses:
            await context.write(response)


def _runs_in_loop(inner: Any) -> bool:
    """Return whether a handler is a coroutine function or an asynchronous generator; log it if not."""
    code = getattr(inner, "__code__", None)  # `inspect` would take longer than the rest of the guard
    if code is not None and code.co_flags & _IN_LOOP:
        return True
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        return True
    _log.error("calls of %r are refused: a guard of grpc.aio needs a coroutine function", inner)
    return False


def _refusing(refusal: RefusedError) -> Handler:
    """Return a handler that refuses a call of any kind, without waiting for a request."""

    async def refuse(_: AsyncIterator[bytes], context: Context) -> None:
        await _abort(context, refusal)

    make: Any = grpc.stream_stream_rpc_method_handler
    return make(refuse)  # type: ignore[no-any-return]


async def _abort(context: Context, refusal: RefusedError) -> NoReturn:
    kept: Any = context.trailing_metadata() or ()
    await context.abort(refusal.code, str(refusal), (*kept, (DETAILS, refusal.details())))
