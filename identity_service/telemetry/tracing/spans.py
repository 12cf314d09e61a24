"""Spans of OpenTelemetry: one for each recorded call, and one for each traced function that runs within it.

A span has no text of a request or of an exception, which might hold a credential.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Final, ParamSpec, TypeAlias, TypeVar

import structlog
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    format_trace_id,
    get_current_span,
    set_span_in_context,
    use_span,
)

from identity_service.domain.errors import IdentityError, UnavailableError
from identity_service.telemetry.call_ids import TraceContext, read_context
from identity_service.telemetry.tracing.sampling import Sampling

P = ParamSpec("P")
T = TypeVar("T")
Attributes: TypeAlias = Mapping[str, str | int]
_ERROR_TYPE: Final = "error.type"


class Spans:
    """A maker of the spans of one process."""

    def __init__(self, tracer: Tracer, sampling: Sampling) -> None:
        self._tracer = tracer
        self._sampling = sampling

    def begin(
        self,
        name: str,
        metadata: Collection[tuple[str, str | bytes]],
        attributes: Attributes,
        *,
        time_ns: int | None = None,
    ) -> Span | None:
        """Return the span of a call with these metadata or headers, or None if the call is not recorded.

        From now on, the log lines of the call have its trace id. The span began at `time_ns`, in Unix
        nanoseconds; None = now.
        """
        context = read_context(metadata)
        if not self._sampling.is_recorded(context):
            return None
        parent = Context() if context is None else set_span_in_context(_remote(context), Context())
        span = self._tracer.start_span(
            name, parent, kind=SpanKind.SERVER, attributes=attributes, start_time=time_ns
        )
        if not span.is_recording():  # OTEL_SDK_DISABLED is set
            return None
        trace_id = format_trace_id(span.get_span_context().trace_id)
        structlog.contextvars.bind_contextvars(trace_id=trace_id)
        return span

    def traced(
        self,
        function: Callable[P, T],
        name: str,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Callable[P, T]:
        """Return the function with a span around it, if it runs within a call that is recorded.

        A span is marked as failed for a bug, or for a store or device that cannot be reached, but not if the
        service refuses something.
        """

        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            if not get_current_span().is_recording():
                return function(*args, **kwargs)
            span = self._tracer.start_span(name, kind=kind, attributes=attributes)
            try:
                with current(span):
                    return function(*args, **kwargs)
            except Exception as error:
                if isinstance(error, UnavailableError) or not isinstance(error, IdentityError):
                    fail(span, getattr(error, "reason", type(error).__qualname__))
                raise
            finally:
                span.end()

        return run


def current(span: Span) -> AbstractContextManager[Span]:
    """Return a context manager within which the span is the parent of further ones."""
    return use_span(span, record_exception=False, set_status_on_exception=False)


def fail(span: Span, error: str) -> None:
    """Mark a span as failed by this kind of error."""
    span.set_status(StatusCode.ERROR)
    span.set_attribute(_ERROR_TYPE, error)


def _remote(context: TraceContext) -> Span:
    """Return the span of the caller, as the parent of a span of this process."""
    return NonRecordingSpan(
        SpanContext(
            trace_id=int(context.trace_id, 16),
            span_id=int(context.span_id, 16),
            is_remote=True,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
            trace_state=TraceState(context.state),
        )
    )
