"""The steps of every call: parse, policy, deadline, use case, error table, log line.

Each handler is wrapped once, when its servicer registers; a chain of interceptors would run on every call.
Handlers take and return bytes, because grpcio itself would answer INTERNAL to bytes that do not parse, and
would show the text of an exception to the client.
"""

import logging
import re
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, Final, NoReturn, Protocol, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from identity_service.domain.errors import (
    FieldViolation,
    MalformedRequestError,
    MethodNotAllowedError,
    ShuttingDownError,
    StoreUnavailableError,
)
from identity_service.domain.origin import Origin
from identity_service.grpc_api.callers import Caller, CallerGate
from identity_service.grpc_api.calls import Call, certificate_of, peer_of
from identity_service.grpc_api.errors import REQUEST_ID, new_request_id, status_code, to_status
from identity_service.grpc_api.limits import Limits
from identity_service.grpc_api.policy import POLICY, Pool, Rule
from identity_service.grpc_api.response_stream import ResponseStream
from identity_service.services.verify import StoreReadRequiredError

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in the type stubs only
Handlers: TypeAlias = Mapping[str, Handler]
Context = grpc.ServicerContext


Behaviour: TypeAlias = Callable[[bytes, Context], Any]
Observe: TypeAlias = Callable[[str, Behaviour], Behaviour]
"""Wraps the behaviour of a unary method, for metrics and tracing.

Takes the name of the method and its behaviour, and returns the behaviour that replaces it. The replacement
must call the original and pass on its result or exception.
"""


class Registrable(Protocol):
    """The two methods of `grpc.Server` that generated code calls to register a servicer."""

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Register handlers that find a method by its path."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Register the handlers of a service by the names of its methods."""


class Pipeline:
    """A stand-in for the server in `add_…Servicer_to_server`: it wraps the handlers, then registers them."""

    def __init__(
        self,
        server: Registrable,
        gate: CallerGate,
        work: ThreadPoolExecutor,
        policy: Mapping[str, Rule] = POLICY,
        observe: Observe | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Create a pipeline in front of an engine.

        Args:
            server: the engine.
            gate: authenticates callers.
            work: runs the methods that may wait for the store.
            policy: the rule of each method.
            observe: wraps unary methods for metrics and tracing; None = they are not wrapped.
            limits: bound the number of open streams of each kind; None = no bound.
        """
        self._observe = observe
        self._limits = limits
        self._server = server
        self._gate = gate
        self._work = work
        self._policy = policy
        self._log: Any = structlog.get_logger("identity.rpc")
        self._verbose = logging.getLogger("identity.rpc").isEnabledFor(logging.DEBUG)
        self._stopping = False

    def stop(self) -> None:
        """Note that the store is closed from now on: calls still in progress end with SHUTTING_DOWN."""
        self._stopping = True

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Ignore them: generated code registers the same handlers by name as well."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Handlers) -> None:
        """Wrap the handlers of a service and register them with the engine."""
        wrapped = {
            name: self._wrap(f"/{service_name}/{name}", handler) for name, handler in method_handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, wrapped),))
        self._server.add_registered_method_handlers(service_name, wrapped)

    def _wrap(self, method: str, handler: Any) -> Handler:
        rule = self._policy.get(method)
        if rule is not None and hasattr(handler.unary_unary, "recall"):
            return grpc.unary_unary_rpc_method_handler(
                self._observed(method, self._recalling(method, rule, handler))
            )
        if handler.unary_unary is not None:
            behaviour = self._observed(method, self._unary(method, rule, handler))
            self._assign_threads(rule, behaviour)
            return grpc.unary_unary_rpc_method_handler(behaviour, None, _serialize)
        if handler.unary_stream is not None:
            behaviour = self._stream(method, rule, handler)
            behaviour.experimental_non_blocking = True  # type: ignore[attr-defined]
            self._assign_threads(rule, behaviour)
            return grpc.unary_stream_rpc_method_handler(behaviour, None, None)
        if handler.stream_stream is not None:
            behaviour = self._conversation(method, rule, handler)
            self._assign_threads(rule, behaviour)
            return grpc.stream_stream_rpc_method_handler(behaviour, None, None)
        raise TypeError(f"{method}: client streaming is not offered")

    def _assign_threads(self, rule: Rule | None, behaviour: Any) -> None:
        if rule is not None and rule.pool is Pool.WORK:
            behaviour.experimental_thread_pool = self._work

    def _observed(self, method: str, behaviour: Behaviour) -> Behaviour:
        """Return the behaviour as `observe` wraps it.

        A wrapped behaviour has no attribute `instant`, so that no call bypasses the observer.
        """
        return behaviour if self._observe is None else self._observe(method, behaviour)

    def _recalling(self, method: str, rule: Rule, handler: Any) -> Callable[[bytes, Context], Any]:
        """Return the behaviour of a method that may have cached the response to the bytes of a request."""
        parse, use = handler.request_deserializer, handler.unary_unary
        recall: Callable[[bytes], bytes | None] = use.recall.__get__(use.__self__)
        caller_required = self._gate.applies(rule, None)

        def instant(data: bytes, context: Context) -> bytes | None:
            """Return the cached response, or None. An event loop may call it, since it never waits."""
            try:
                if caller_required:
                    self._admit(method, rule, parse, data, context, may_wait=False)
                # No check of the deadline: it would cost more than the response.
                return recall(data)
            except StoreReadRequiredError:  # the caller's token needs a read of the store
                return None
            except Exception as error:  # noqa: BLE001  # the table has a status for each
                self._fail(method, context, error)

        def behaviour(data: bytes, context: Context) -> Any:
            answer = instant(data, context)
            if answer is None:
                try:
                    answer = use(self._admit(method, rule, parse, data, context)[0], data)
                except Exception as error:  # noqa: BLE001  # the table has a status for each
                    self._fail(method, context, error)
            return answer

        behaviour.instant = instant  # type: ignore[attr-defined]  # for engines with an event loop
        return behaviour

    def _unary(self, method: str, rule: Rule | None, handler: Any) -> Callable[[bytes, Context], Any]:
        parse, use = handler.request_deserializer, handler.unary_unary
        quiet = rule is not None and rule.quiet and not self._verbose
        # Methods that answer from memory do not use the origin, so it is not read from the transport.
        anonymous = rule is None or rule.pool is Pool.MEMORY

        def behaviour(data: bytes, context: Context) -> Any:  # a message or its bytes
            if quiet:
                try:
                    request, caller = self._admit(method, rule, parse, data, context)
                    return use(request, context if anonymous else _call(context, caller, ""))
                except Exception as error:  # noqa: BLE001  # the table has a status for each
                    self._fail(method, context, error)
            started, id_ = time.perf_counter(), request_id(context)
            structlog.contextvars.bind_contextvars(request_id=id_)
            try:
                request, caller = self._admit(method, rule, parse, data, context)
                response = use(request, context if anonymous else _call(context, caller, id_))
            except Exception as error:  # noqa: BLE001  # the table has a status for each
                self._fail(method, context, error, id_, started)
            context.set_trailing_metadata(((REQUEST_ID, id_),))
            self._log_call(method, "OK", id_, started)
            return response

        return behaviour

    def _stream(self, method: str, rule: Rule | None, handler: Any) -> Callable[..., None]:
        """Return the behaviour of a method that hands its stream over to the senders."""
        parse, use = handler.request_deserializer, handler.unary_stream
        anonymous = rule is None or rule.pool is Pool.MEMORY

        def behaviour(data: bytes, context: Context, stream: ResponseStream) -> None:
            try:
                request, caller = self._admit(method, rule, parse, data, context)
                self._count_stream(rule, context)
                use(request, context if anonymous else _call(context, caller, request_id(context)), stream)
            except Exception as error:  # noqa: BLE001  # the table has a status for each
                self._fail(method, context, error)

        return behaviour

    def _conversation(self, method: str, rule: Rule | None, handler: Any) -> Callable[..., Any]:
        """Return the behaviour of a bidirectional method; its servicer gets one message at a time."""
        parse, use = handler.request_deserializer, handler.stream_stream

        def behaviour(context: Context) -> Callable[[bytes], bytes]:
            try:
                self._count_stream(_require_policy(rule), context)
            except Exception as error:  # noqa: BLE001  # the table has a status for each
                self._fail(method, context, error)

            def answer(data: bytes) -> bytes:
                try:
                    return _serialize(use(_parsed(parse, data), context))
                except Exception as error:  # noqa: BLE001  # the table has a status for each
                    self._fail(method, context, error)

            return answer

        return behaviour

    def _count_stream(self, rule: Rule | None, context: Context) -> None:
        """Count an open stream until it ends. Raises ServerBusyError if the limit is reached."""
        if self._limits is None or rule is None or rule.streams is None:
            return
        quota = self._limits.streams[rule.streams]
        address = self._limits.peers.address_of(context.peer())
        quota.acquire(address)
        if not context.add_callback(lambda: quota.release(address)):
            quota.release(address)

    def _admit(
        self,
        method: str,
        rule: Rule | None,
        parse: Callable[[bytes], Message],
        data: bytes,
        context: Context,
        *,
        may_wait: bool = True,
    ) -> tuple[Message, Caller | None]:
        """Return the parsed request, and the caller if the method requires one.

        Raises the errors of `CallerGate.admit`, MethodNotAllowedError, MalformedRequestError, and
        TimeoutError if the call was cancelled or its deadline has passed.
        """
        rule = _require_policy(rule)
        request = _parsed(parse, data)
        caller = None
        if self._gate.applies(rule, request):
            caller = self._gate.admit(method, rule, context, may_wait=may_wait)
            structlog.contextvars.bind_contextvars(caller=caller.principal)
        # Cancelled, or past its deadline after waiting for a thread; gRPC's core may notice that later.
        if not context.is_active() or context.time_remaining() == 0:
            raise TimeoutError
        return request, caller

    def _fail(
        self,
        method: str,
        context: Context,
        error: Exception,
        id_: str | None = None,
        started: float | None = None,
    ) -> NoReturn:
        """Log the failure and abort the call with the status of the error."""
        id_ = id_ or request_id(context)
        if self._is_of_stop(error):
            error = ShuttingDownError("this process is stopping; reconnect")
        code = status_code(error)
        if not context.is_active():
            self._log_call(method, "CANCELLED", id_, started)
        elif isinstance(error, TimeoutError) and context.time_remaining() == 0:
            # gRPC's core has not noticed it yet; this is the status that it would send.
            self._log_call(method, "DEADLINE_EXCEEDED", id_, started)
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        elif code is grpc.StatusCode.INTERNAL:
            # Log the place only: the text of an unknown exception may contain a value of the request.
            frames = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            self._log.error(
                "rpc_bug", method=method, request_id=id_, error=type(error).__name__, frames=frames[-8:]
            )
        else:
            self._log_call(method, code.name, id_, started, reason=getattr(error, "reason", None))
        context.abort_with_status(to_status(error, id_))  # type: ignore[arg-type]  # it has the fields of grpc.Status
        raise AssertionError("abort_with_status does not return")

    def _is_of_stop(self, error: Exception) -> bool:
        """Return whether a call failed because the process stops: its store is closed, or it was cancelled.

        Work is cancelled by pools that are shut down, and by nothing else. A change that was made and not
        confirmed (NOT_CONFIRMED), and a store that was moved, keep their own reason.
        """
        of_store = isinstance(error, StoreUnavailableError) and error.reason == StoreUnavailableError.reason
        return isinstance(error, CancelledError) or (self._stopping and of_store)

    def _log_call(self, method: str, code: str, id_: str, started: float | None, **more: object) -> None:
        if started is not None:
            more["ms"] = round((time.perf_counter() - started) * 1000, 3)
        self._log.info("rpc", method=method, code=code, request_id=id_, **more)


def _call(context: Context, caller: Caller | None, id_: str) -> Call:
    origin = Origin(
        peer=peer_of(context),
        request_id=id_,
        certificate=certificate_of(context),
        actor=caller.principal if caller is not None else None,
        session_id=caller.session_id if caller is not None else None,
        is_admin=caller is not None and caller.is_admin,
    )
    return Call(origin=origin, context=context)


def request_id(context: Context) -> str:
    """Return the client's `x-request-id` if it is 1 to 128 visible ASCII characters, else a new id."""
    for key, value in context.invocation_metadata():
        if key == REQUEST_ID and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return new_request_id()


def _require_policy(rule: Rule | None) -> Rule:
    if rule is None:
        raise MethodNotAllowedError("the policy table has no entry for this method, so no caller may use it")
    return rule


def _parsed(parse: Callable[[bytes], Message], data: bytes) -> Message:
    try:
        return parse(data)
    except DecodeError as error:
        violation = FieldViolation(
            field="", description="the bytes cannot be parsed as the request message of this method"
        )
        raise MalformedRequestError(violation) from error


def _serialize(response: Any) -> bytes:  # a message, or a serialized one
    return response if type(response) is bytes else response.SerializeToString()
