"""Tracing spans: how they end and fail, and that calls that are not sampled have none."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import grpc
import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from identity_service.domain.errors import NotFoundError, StoreUnavailableError
from identity_service.grpc_api.asgi.context import AbortedError, AsgiContext
from identity_service.grpc_api.engine import Handler, InstantResponse, StreamHandler, UnaryHandler
from identity_service.telemetry.tracing.calls import TracedEngine
from identity_service.telemetry.tracing.sampling import Sampling
from identity_service.telemetry.tracing.spans import Spans, current
from tests.fakes.streams import FakeStream


class Site:
    """A tracer whose finished spans the test reads."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.spans = Spans(provider.get_tracer("test"), Sampling(1.0, 1000, lambda: 0.0))

    @property
    def ended(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def codes(self) -> list[Any]:
        return [dict(span.attributes or {}).get("rpc.response.status_code") for span in self.ended]

    def register(self, handler: Handler) -> Any:
        """Return the handler, wrapped as the engine wraps it."""
        engine = _Engine()
        TracedEngine(cast("Any", engine), self.spans).register("/test.Service/Method", handler)
        return engine.handler


class _Engine:
    handler: Handler

    def register(self, method: str, handler: Handler) -> None:
        self.handler = handler


@pytest.fixture(autouse=True)
def own_contextvars() -> Iterator[None]:
    """Isolate the context variables of a call, as every engine does; here all calls share one thread."""
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def site() -> Site:
    return Site()


def context() -> AsgiContext:
    return AsgiContext({"headers": []})


def unary(
    answer: Callable[..., bytes], instant: Callable[..., InstantResponse | None] | None = None
) -> UnaryHandler:
    return UnaryHandler(threads=cast("Any", None), answer=answer, instant=instant)


def abort(_: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.NOT_FOUND, "none")
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (StoreUnavailableError("down"), "STORE_UNAVAILABLE"),
        (RuntimeError("a text of the request"), "RuntimeError"),
        (NotFoundError("none"), None),
    ],
)
def test_only_what_is_away_or_a_bug_is_a_failure_of_a_function(
    site: Site, error: Exception, failure: str | None
) -> None:
    def function() -> None:
        raise error

    call = site.spans.begin("call", [], {})
    assert call is not None
    with current(call), pytest.raises(type(error)):
        site.spans.traced(function, "function", {})()

    (span,) = site.ended
    assert (span.attributes or {}).get("error.type") == failure
    assert span.status.is_ok is (failure is None)
    assert "a text of the request" not in span.to_json()


def test_a_function_outside_of_a_recorded_call_has_no_span(site: Site) -> None:
    assert site.spans.traced(lambda: 7, "function", {})() == 7
    assert site.ended == []


def test_a_span_is_no_longer_current_after_its_call(site: Site) -> None:
    handler = site.register(unary(lambda data, _: data))
    assert handler.answer(b"x", context()) == b"x"

    assert not get_current_span().is_recording()
    assert site.codes == ["OK"]


def test_a_call_that_is_aborted_ends_with_its_code(site: Site) -> None:
    with pytest.raises(AbortedError):
        site.register(unary(abort)).answer(b"", context())

    assert site.codes == ["NOT_FOUND"]


def test_a_call_that_the_cache_answers_or_refuses_has_a_span_and_one_that_it_leaves_has_none(
    site: Site,
) -> None:
    known = {b"known": (b"response", True)}
    handler = site.register(unary(abort, lambda data, _: known.get(data)))
    refusing = site.register(unary(abort, cast("Any", abort)))

    assert handler.instant(b"unknown", context()) is None
    assert site.codes == []
    assert handler.instant(b"known", context()) == (b"response", True)
    with pytest.raises(AbortedError):
        refusing.instant(b"", context())
    assert site.codes == ["OK", "NOT_FOUND"]


def test_a_stream_that_cannot_be_opened_ends_its_span_once(site: Site) -> None:
    def open_(data: bytes, context: Any, _: Any) -> None:
        abort(data, context)

    handler = site.register(StreamHandler(threads=cast("Any", None), open=open_))
    with pytest.raises(AbortedError):
        handler.open(b"", context(), FakeStream())

    assert site.codes == ["NOT_FOUND"]


def test_a_process_whose_sdk_is_disabled_answers_without_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    site = Site()

    assert site.register(unary(lambda data, _: data)).answer(b"x", context()) == b"x"
    assert structlog.contextvars.get_contextvars() == {}
    assert site.ended == []
