"""Spans of gRPC calls, with the names of OpenTelemetry's conventions for RPC."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import grpc
from opentelemetry.trace import Span

from identity_service.grpc_api.call_counts import CountedStream
from identity_service.grpc_api.engine import (
    Context,
    ConversationHandler,
    Engine,
    Handler,
    InstantResponse,
    ResponseStream,
    StreamHandler,
    UnaryHandler,
)
from identity_service.telemetry.tracing.spans import Attributes, Spans, current, fail

_UNTRACED: Final = ("/grpc.health.v1.", "/grpc.reflection.")
"""The services whose calls are not traced: probes and tools make them, not the clients of an application."""
_FAILURES: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""The codes that are errors of the server; with others it has refused what a client must not do."""


class TracedEngine:
    """An engine that puts a span around each call and passes it to another engine."""

    def __init__(self, engine: Engine, spans: Spans) -> None:
        self._engine = engine
        self._spans = spans

    def register(self, method: str, handler: Handler) -> None:
        """Serve a method with this handler, and trace its calls."""
        traced = handler
        if not method.startswith(_UNTRACED):
            calls = _TracedMethod(method.removeprefix("/"), self._spans)
            match handler:
                case UnaryHandler():
                    instant = handler.instant and calls.instant(handler.instant)
                    traced = replace(handler, answer=calls.answer(handler.answer), instant=instant)
                case StreamHandler():
                    traced = replace(handler, open=calls.open(handler.open))
                case ConversationHandler():
                    pass  # a bidirectional stream: reflection alone, which is not traced
        self._engine.register(method, traced)

    def start(self) -> int:
        """Accept calls and return the port. Raises ConfigurationError."""
        return self._engine.start()

    def stop(self, grace: float) -> bool:
        """Let calls in progress finish; return whether all finished within `grace` seconds."""
        return self._engine.stop(grace)


class _TracedMethod:
    """Wraps the functions of the handler of one method."""

    def __init__(self, name: str, spans: Spans) -> None:
        self._name = name
        self._spans = spans
        self._attributes: Attributes = {"rpc.system.name": "grpc", "rpc.method": name}

    def answer(self, answer: Callable[[bytes, Context], bytes]) -> Callable[[bytes, Context], bytes]:
        """Return the function that answers a request, with a span around it."""

        def traced(data: bytes, context: Context) -> bytes:
            span = self._begin(context)
            if span is None:
                return answer(data, context)
            try:
                with current(span):
                    response = answer(data, context)
            except BaseException:
                _end(span, _code_of(context))
                raise
            _end(span, grpc.StatusCode.OK)
            return response

        return traced

    def instant(
        self, instant: Callable[[bytes, Context], InstantResponse | None]
    ) -> Callable[[bytes, Context], InstantResponse | None]:
        """Return the function that answers at once, with a span of the calls that it has answered."""

        def traced(data: bytes, context: Context) -> InstantResponse | None:
            # The span is made afterwards: without a response, `answer` is called, which makes one itself.
            began = time.time_ns()
            try:
                response = instant(data, context)
            except BaseException:
                if (span := self._begin(context, began)) is not None:
                    _end(span, _code_of(context))
                raise
            if response is not None and (span := self._begin(context, began)) is not None:
                _end(span, grpc.StatusCode.OK)
            return response

        return traced

    def open(
        self, open_: Callable[[bytes, Context, ResponseStream], None]
    ) -> Callable[[bytes, Context, ResponseStream], None]:
        """Return the function that opens a stream, with a span until the stream has ended."""

        def traced(data: bytes, context: Context, stream: ResponseStream) -> None:
            span = self._begin(context)
            if span is None:
                open_(data, context, stream)
                return
            watched = CountedStream(stream, lambda code: _end(span, code))
            try:
                with current(span):
                    open_(data, context, watched)
            except BaseException:
                _end(span, _code_of(context))
                raise
            watched.watch()

        return traced

    def _begin(self, context: Context, time_ns: int | None = None) -> Span | None:
        metadata = context.invocation_metadata()
        return self._spans.begin(self._name, metadata, self._attributes, time_ns=time_ns)


def _code_of(context: Any) -> grpc.StatusCode | None:
    """Return the code with which a call was left; the type of grpcio's contexts lacks the method."""
    code: grpc.StatusCode | None = context.code()
    return code


def _end(span: Span, code: grpc.StatusCode | None) -> None:
    """End the span of a call that has this code; None = the call was left without one."""
    code = code or grpc.StatusCode.UNKNOWN
    span.set_attribute("rpc.response.status_code", code.name)
    if code in _FAILURES:
        fail(span, code.name)
    span.end()
