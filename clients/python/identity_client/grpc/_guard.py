"""The guard of a gRPC server with threads (`grpc.server`)."""

from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from typing import Any, Final, NoReturn

import grpc

from identity_client.admission import Admission, AskError, Observe
from identity_client.asking import Asked, Asking, check_ask
from identity_client.caller import Caller, current
from identity_client.grpc._certificates import certificate_sha256
from identity_client.grpc._handlers import Handler, UnaryHandler
from identity_client.open_calls import OpenCall
from identity_client.policy import Policy, Requirement
from identity_client.refusal import DETAILS, RefusedError
from identity_client.threaded_calls import ThreadedCalls
from identity_client.verifier_core import VerifierCore

AUTHORIZATION: Final = "authorization"
_END: Final = object()


class Guard(grpc.ServerInterceptor):
    """An interceptor that lets no call through that the policy and the caller's token do not allow.

    server = grpc.server(pool, interceptors=[Guard(verifier, policy)])

    Put it first, so that no other interceptor sees calls that are refused. Calls with a stream of requests or
    responses end when their token is revoked or expires: with UNAUTHENTICATED at their next message, and
    otherwise they are cancelled after 100 ms, since a blocked thread cannot be given a status.
    """

    def __init__(
        self,
        verifier: VerifierCore,
        policy: Policy,
        *,
        ask: Asked | None = None,
        observe: Observe | None = None,
    ) -> None:
        """Create a guard.

        Args:
            verifier: verifies the tokens; the caller closes it, after the server has stopped.
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
        self._asking = Asking(self._admission, ask)
        self._calls = ThreadedCalls(verifier, self._admission.note)

    @property
    def stale_calls(self) -> Mapping[str, int]:
        """Return how many calls found the verifier stale: `refused`, `asked` and `allowed`."""
        return self._admission.stale_calls

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler of a call, behind the check of its caller."""
        try:
            requirement = self._policy.requirement(handler_call_details.method)
        except Exception:  # noqa: BLE001  # whatever failed, the call is refused
            return refusing(self._admission.policy_failed())
        if requirement is None:
            return refusing(self._admission.without_entry(handler_call_details.method))
        handler = continuation(handler_call_details)
        if handler is None or requirement.public:
            return handler
        values = [value for key, value in handler_call_details.invocation_metadata if key == AUTHORIZATION]
        if handler.request_streaming or handler.response_streaming:
            return self._with_streams(handler, requirement, values)
        return _UnaryHandler(self._admission, self._asking, handler, requirement, values)

    def _with_streams(self, handler: Handler, requirement: Requirement, values: list[str | bytes]) -> Handler:
        """Return the handler of a call with a stream, behind the check of its caller."""
        inner: Any
        if not handler.response_streaming:
            inner, make = handler.stream_unary, grpc.stream_unary_rpc_method_handler
            behavior = partial(self._collect, inner, requirement, values)
        else:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            behavior = partial(self._respond, inner, requirement, values, handler.request_streaming)
        return make(behavior, handler.request_deserializer, handler.response_serializer)

    def _admit(
        self, requirement: Requirement, values: list[str | bytes], context: grpc.ServicerContext
    ) -> Caller:
        """Return the caller. Raises RefusedError."""
        try:
            return self._admission.admit(requirement, values, context)
        except AskError as error:
            return self._asking.ask(error.question)

    def _open(self, caller: Caller, context: grpc.ServicerContext) -> OpenCall:
        """Add a call with a stream to the open ones until it ends. Raises RefusedError."""
        call = OpenCall(caller, context.cancel)
        self._calls.add(call)
        if not context.add_callback(partial(self._calls.remove, call)):
            self._calls.remove(call)
        return call

    def _collect(
        self,
        inner: Callable[[Any, grpc.ServicerContext], Any],
        requirement: Requirement,
        values: list[str | bytes],
        requests: Iterator[Any],
        context: grpc.ServicerContext,
    ) -> Any:
        """Handle a call with a stream of requests and one response."""
        try:
            caller = self._admit(requirement, values, context)
            call = self._open(caller, context)
            restore = current.set(caller)
            try:
                response = inner(_Requests(requests, call), context)
                call.check()
            finally:
                current.reset(restore)
        except RefusedError as refusal:
            _abort(context, refusal)
        return response

    def _respond(
        self,
        inner: Callable[[Any, grpc.ServicerContext], Any],
        requirement: Requirement,
        values: list[str | bytes],
        streams_requests: bool,
        request: Any,
        context: grpc.ServicerContext,
    ) -> Iterator[Any]:
        """Handle a call with a stream of responses."""
        try:
            caller = self._admit(requirement, values, context)
            call = self._open(caller, context)
            restore = current.set(caller)
            try:
                responses = inner(_Requests(request, call) if streams_requests else request, context)
            finally:
                current.reset(restore)
        except RefusedError as refusal:
            _abort(context, refusal)
        return _checked(responses, caller, call, context)


class _UnaryHandler(UnaryHandler):
    """The handler of one call with one request and one response, behind the check of its caller."""

    def unary_unary(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Handle the call."""
        try:
            try:
                caller = self._admission.admit(self._requirement, self._values, context)
            except AskError as error:
                caller = self._asking.ask(error.question)
            restore = current.set(caller)
            try:
                return self._inner(request, context)
            finally:
                current.reset(restore)
        except RefusedError as refusal:
            _abort(context, refusal)


class _NotForAsyncio(grpc.aio.ServerInterceptor):
    """A class by which `grpc.aio.server`, which checks the class of interceptors, names the right guard."""

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        if issubclass(other, Guard):
            raise TypeError(
                "this Guard is for grpc.server: give grpc.aio.server the Guard of identity_client.grpc.aio"
            )
        return NotImplemented


class _Requests(Iterator[Any]):
    """The requests of a call, until its token ends it."""

    def __init__(self, requests: Iterator[Any], call: OpenCall) -> None:
        self._requests = requests
        self._call = call

    def __next__(self) -> Any:
        self._call.check()
        request = next(self._requests)
        self._call.check()
        return request


def _checked(
    responses: Iterator[Any], caller: Caller, call: OpenCall, context: grpc.ServicerContext
) -> Iterator[Any]:
    """Return the responses, until the token ends the call. Each may be asked for by another thread."""
    try:
        while True:
            restore = current.set(caller)
            try:
                call.check()
                response = next(responses, _END)
                call.check()
            except RefusedError as refusal:
                _abort(context, refusal)
            finally:
                current.reset(restore)
            if response is _END:
                return
            yield response
    finally:
        # Otherwise the generator would clean up when the garbage collector closes it: late, in any thread,
        # and without its caller in `current`.
        restore = current.set(caller)
        try:
            if isinstance(responses, Generator):
                responses.close()
        finally:
            current.reset(restore)


def refusing(refusal: RefusedError) -> Handler:
    """Return a handler that refuses a call of any kind, without waiting for a request."""

    def refuse(_: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        _abort(context, refusal)

    return grpc.stream_stream_rpc_method_handler(refuse)


def _abort(context: grpc.ServicerContext, refusal: RefusedError) -> NoReturn:
    context.set_trailing_metadata((*(context.trailing_metadata() or ()), (DETAILS, refusal.details())))
    context.abort(refusal.code, str(refusal))
