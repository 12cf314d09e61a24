"""The steps of every call: parse, policy, deadline, use case, error table, log line, count.

The pipeline makes one handler of each method, once; a chain of interceptors would run on every call. Handlers
take and return bytes, because grpcio itself would answer INTERNAL to bytes that do not parse, and would show
the text of an exception to the client.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from identity_service.domain.errors import (
    FieldViolation,
    MalformedRequestError,
    MethodNotAllowedError,
)
from identity_service.grpc_api.call_counts import CallCounts, CountedStream
from identity_service.grpc_api.caller_streams import CallerStreams
from identity_service.grpc_api.calls import (
    Call,
    Caller,
    bind_ids,
    client_of,
    request_id_of,
    shows_proof,
)
from identity_service.grpc_api.engine import (
    Context,
    ConversationHandler,
    Handler,
    ResponseStream,
    StreamHandler,
    UnaryHandler,
)
from identity_service.grpc_api.failures import Failures
from identity_service.grpc_api.gate import CallerGate
from identity_service.grpc_api.method_spec import (
    Access,
    Cached,
    Conversation,
    MethodSpec,
    Pool,
    Rule,
    Stream,
    Unary,
)
from identity_service.grpc_api.threads import Pools
from identity_service.grpc_api.verify import Answer, cached_answers
from identity_service.telemetry.call_ids import REQUEST_ID
from identity_service.transport.limits import Limits

CountOk: TypeAlias = Callable[[float], None]
"""A function that counts a call that ended OK; takes its duration in seconds."""


class Pipeline:
    """A maker of handlers; the handler of a method takes its calls through all the steps."""

    def __init__(self, gate: CallerGate, pools: Pools, limits: Limits) -> None:
        """Create a pipeline.

        Args:
            gate: authenticates callers.
            pools: run the methods.
            limits: the bounds on the number of open streams of each kind.
        """
        self._gate = gate
        self._threads = {Pool.MEMORY: pools.memory, Pool.WORK: pools.work}
        self._limits = limits
        self.counts = CallCounts()
        """The calls that handlers have ended."""
        self.streams = CallerStreams()
        """The open server streams whose callers were authenticated."""
        # Bound once: structlog's proxy would look it up for each line (bar S6).
        self._log: Any = structlog.get_logger("identity.rpc").bind()
        self._verbose = logging.getLogger("identity.rpc").isEnabledFor(logging.DEBUG)
        failures = Failures(self._log, self.counts.add)
        self.stop, self.fail = failures.stop, failures.fail

    def handler(self, method: str, spec: MethodSpec | None) -> Handler:
        """Return the handler of a method, by its full name; without an entry it refuses every call."""
        count_ok = self.counts.register(method, spec)
        if spec is None:
            return self._refusal(method)
        threads, most = self._threads[spec.rule.pool], spec.max_bytes
        match spec:
            case Unary():
                answer = self._unary(method, spec, count_ok)
                return UnaryHandler(threads=threads, answer=answer, max_bytes=most)
            case Cached():
                required = self._gate.applies(spec.rule, None)
                answer, instant = cached_answers(
                    self, method, spec, caller_required=required, count_ok=count_ok
                )
                return UnaryHandler(threads=threads, answer=answer, instant=instant, max_bytes=most)
            case Stream():
                return StreamHandler(threads=threads, open=self._stream(method, spec), max_bytes=most)
            case Conversation():
                converse = self._conversation(method, spec)
                return ConversationHandler(threads=threads, open=converse, max_bytes=most)

    def _refusal(self, method: str) -> UnaryHandler:
        def answer(_: bytes, context: Context) -> bytes:
            started = time.perf_counter()
            error = MethodNotAllowedError(
                "this method has no entry in the table of methods, so no caller may use it"
            )
            self.fail(method, context, error, request_id_of(context), started)

        return UnaryHandler(threads=self._threads[Pool.MEMORY], answer=answer, max_bytes=0)

    def _unary(self, method: str, spec: Unary[Any], count_ok: CountOk) -> Answer:
        serve, repeat, quiet = spec.serve, spec.repeat, spec.rule.quiet and not self._verbose

        def answer(data: bytes, context: Context) -> bytes:
            started = time.perf_counter()
            id_ = request_id_of(context) if quiet else bind_ids(context)
            try:
                message = None
                nonce: tuple[tuple[str, str], ...] = ()
                if repeat is not None and not _is_too_long(spec, data) and not shows_proof(context):
                    _require_wait(context)
                    message = repeat(data, client_of(context, self._limits.peers), id_)
                if message is None:
                    request, caller = self.admit(method, spec, data, context)
                    call = self._call(method, context, id_, caller, data)
                    message = serve(request, call)
                    if not quiet and call.shows_proof:
                        nonce = call.proofs.next_nonce()
                response: bytes = message.SerializeToString()
            except Exception as error:  # noqa: BLE001  # the table has a status for each
                self.fail(method, context, error, id_, started)
            if not quiet:
                context.set_trailing_metadata(((REQUEST_ID, id_), *nonce))
                milliseconds = round((time.perf_counter() - started) * 1000, 3)
                self._log.info("rpc", method=method, code="OK", request_id=id_, ms=milliseconds)
            count_ok(time.perf_counter() - started)
            return response

        return answer

    def _stream(self, method: str, spec: Stream[Any]) -> Callable[[bytes, Context, ResponseStream], None]:
        def open_(data: bytes, context: Context, stream: ResponseStream) -> None:
            started, id_ = time.perf_counter(), bind_ids(context)
            try:
                request, caller = self.admit(method, spec, data, context)
                self._count_stream(spec.rule, context)
                counted = CountedStream(stream, lambda code: self.counts.add(method, code, started))
                spec.open(request, self._call(method, context, id_, caller, data), counted)
                counted.watch()  # not before: if `open` fails, `fail` counts the call
                if caller is not None:
                    self.streams.add(counted, caller)
            except Exception as error:  # noqa: BLE001  # the table has a status for each
                self.fail(method, context, error, id_, started)

        return open_

    def _conversation(
        self, method: str, spec: Conversation[Any]
    ) -> Callable[[Context], Callable[[bytes], bytes]]:
        def open_(context: Context) -> Callable[[bytes], bytes]:
            started, id_ = time.perf_counter(), bind_ids(context)
            failed = False

            def answer(data: bytes) -> bytes:
                nonlocal failed
                try:
                    return spec.answer(_parsed(spec, data)).SerializeToString()
                except Exception as error:  # noqa: BLE001  # the table has a status for each
                    failed = True
                    self.fail(method, context, error, id_, started)

            def ended() -> None:
                if not failed:  # else `fail` has counted it
                    self.counts.add(method, grpc.StatusCode.OK, started)

            try:
                if self._gate.applies(spec.rule, None):
                    self._gate.admit(method, spec.rule, context)
                self._count_stream(spec.rule, context)
            except Exception as error:  # noqa: BLE001  # the table has a status for each
                self.fail(method, context, error, id_, started)
            if not context.add_callback(ended):
                ended()
            return answer

        return open_

    def _call(self, method: str, context: Context, id_: str, caller: Caller | None, data: bytes) -> Call:
        return Call(
            context=context,
            method=method,
            request_id=id_,
            caller=caller,
            peers=self._limits.peers,
            proofs=self._gate.proofs,
            data=data,
        )

    def _count_stream(self, rule: Rule, context: Context) -> None:
        """Count an open stream until it ends. Raises ServerBusyError if the limit is reached."""
        if rule.streams is None:
            return
        quota = self._limits.streams[rule.streams]
        address = self._limits.peers.address_of_call(context.peer(), context.invocation_metadata)
        quota.acquire(address)
        if not context.add_callback(lambda: quota.release(address)):
            quota.release(address)

    def admit(
        self, method: str, spec: MethodSpec, data: bytes, context: Context, *, may_wait: bool = True
    ) -> tuple[Any, Caller | None]:
        """Return the parsed request, and the caller if the method requires one.

        Raises the errors of `CallerGate.admit`, MalformedRequestError, and TimeoutError if the call was
        cancelled or its deadline has passed.
        """
        rule, caller = spec.rule, None
        # Elsewhere parsed later: a caller that is refused must not cause this work.
        request = _parsed(spec, data) if rule.access is Access.HOLDER_OR_SCOPE else None
        if rule.access is not Access.OPEN and self._gate.applies(rule, request):
            caller = self._gate.admit(method, rule, context, may_wait=may_wait)
            structlog.contextvars.bind_contextvars(caller=caller.principal)
        if request is None:
            request = _parsed(spec, data)
        _require_wait(context)
        return request, caller


def _require_wait(context: Context) -> None:
    """Raise TimeoutError if the client no longer waits for the call.

    It was cancelled, or is past its deadline after waiting for a thread; gRPC's core may notice that later.
    """
    if not context.is_active() or context.time_remaining() == 0:
        raise TimeoutError


def _is_too_long(spec: MethodSpec, data: bytes) -> bool:
    return spec.max_bytes is not None and len(data) > spec.max_bytes


def _parsed(spec: MethodSpec, data: bytes) -> Any:
    if _is_too_long(spec, data):
        description = f"the request of this method must have at most {spec.max_bytes:,} bytes"
        raise MalformedRequestError(FieldViolation(field="", description=description))
    if spec.check is not None:
        spec.check(data)
    try:
        return spec.request.FromString(data)
    except DecodeError as error:
        violation = FieldViolation(
            field="", description="the bytes cannot be parsed as the request message of this method"
        )
        raise MalformedRequestError(violation) from error
