"""The log lines of a call have the trace id that its client sends."""

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from typing import Any, cast

import pytest
import structlog
from google.protobuf.empty_pb2 import Empty
from structlog.testing import capture_logs

from identity_service.domain.errors import NotFoundError
from identity_service.grpc_api.asgi.context import AbortedError, AsgiContext
from identity_service.grpc_api.engine import ConversationHandler, Handler, StreamHandler, UnaryHandler
from identity_service.grpc_api.method_spec import (
    Access,
    Cached,
    Conversation,
    MethodSpec,
    Rule,
    Stream,
    Unary,
)
from identity_service.grpc_api.pipeline import Pipeline
from identity_service.grpc_api.threads import Pools
from identity_service.transport.limits import Limits, LimitsConfig
from tests.fakes.caller_gates import OpenGate
from tests.fakes.event_logs import RecordingEventLog
from tests.fakes.streams import FakeStream

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
RULE, QUIET = Rule(access=Access.OPEN), Rule(access=Access.OPEN, quiet=True)


@pytest.fixture(autouse=True)
def own_contextvars() -> Iterator[None]:
    """Isolate the context variables of a call, as every engine does; here all calls share one thread."""
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()


def handler_of(spec: MethodSpec) -> Handler:
    limits = Limits(LimitsConfig(), RecordingEventLog())
    pipeline = Pipeline(cast("Any", OpenGate()), Pools(memory=1, work=1), limits)
    return pipeline.handler("/test.Service/Method", spec)


def context_of(parent: str | None = PARENT) -> AsgiContext:
    headers = [(b"x-request-id", b"r1")]
    if parent is not None:
        headers.append((b"traceparent", parent.encode()))
    return AsgiContext({"headers": headers})


def call(spec: MethodSpec, parent: str | None = PARENT) -> list[MutableMapping[str, Any]]:
    """Make a call with this `traceparent`; return its log lines."""
    context = context_of(parent)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines, suppress(AbortedError):
        match handler_of(spec):
            case UnaryHandler() as handler:
                handler.answer(b"", context)
            case StreamHandler() as handler:
                handler.open(b"", context, FakeStream())
            case ConversationHandler() as handler:
                handler.open(context)(b"")
    return lines


def failing(*_: object) -> Any:
    structlog.get_logger().info("an event within the call")
    raise NotFoundError("none")


def bug(*_: object) -> Any:
    raise RuntimeError


def serve(*_: object) -> Empty:
    structlog.get_logger().info("an event within the call")
    return Empty()


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (Unary(RULE, Empty, serve), 2),
        (Unary(RULE, Empty, failing), 2),
        (Unary(RULE, Empty, bug), 1),
        (Stream(RULE, Empty, failing), 2),
        (Conversation(RULE, Empty, failing), 2),
    ],
)
def test_every_line_of_a_call_names_its_trace(spec: MethodSpec, count: int) -> None:
    lines = call(spec)

    assert [line["trace_id"] for line in lines] == [TRACE] * count
    assert [line["request_id"] for line in lines] == ["r1"] * count


@pytest.mark.parametrize(
    "spec",
    [Unary(QUIET, Empty, bug), Cached(QUIET, Empty, lambda _: None, cast("Callable[..., bytes]", bug))],
)
def test_a_quiet_call_that_fails_names_its_trace(spec: MethodSpec) -> None:
    (line,) = call(spec)

    assert line["trace_id"] == TRACE


@pytest.mark.parametrize("parent", [None, "nonsense"])
def test_the_lines_of_a_call_without_a_valid_trace_name_none(parent: str | None) -> None:
    lines = call(Unary(RULE, Empty, serve), parent)

    assert len(lines) == 2
    assert not any("trace_id" in line for line in lines)


def test_a_cached_response_binds_nothing() -> None:
    with capture_logs() as lines:
        handler = handler_of(Cached(QUIET, Empty, lambda _: b"known", cast("Callable[..., bytes]", bug)))
        assert isinstance(handler, UnaryHandler)
        assert handler.answer(b"", context_of()) == b"known"
        assert structlog.contextvars.get_contextvars() == {}

    assert lines == []


def test_a_call_that_no_cache_answers_names_its_trace_in_every_line() -> None:
    def served(*_: object) -> bytes:
        structlog.get_logger().info("an event within the call")
        return b""

    (line,) = call(Cached(QUIET, Empty, lambda _: None, served))

    assert line["trace_id"] == TRACE
