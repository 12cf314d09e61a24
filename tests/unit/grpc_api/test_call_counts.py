"""The metric of calls: each call counts once, with the status code that its client gets."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from identity_service.domain.errors import InvalidRequestError, NotFoundError, ServerBusyError
from identity_service.grpc_api.asgi.context import AbortedError, AsgiContext
from identity_service.grpc_api.engine import ConversationHandler, Handler, StreamHandler, UnaryHandler
from identity_service.grpc_api.errors import to_status
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
from identity_service.grpc_api.pipeline import Pipeline
from identity_service.grpc_api.threads import Pools
from identity_service.transport.limits import Limits, LimitsConfig
from tests.fakes.caller_gates import OpenGate
from tests.fakes.event_logs import RecordingEventLog
from tests.fakes.streams import FakeStream

RULE = Rule(access=Access.OPEN, pool=Pool.MEMORY)


class KeptCallbacks(AsgiContext):
    """A context whose callbacks run when the test calls them."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        super().__init__(scope)
        self.callbacks: list[Callable[[], None]] = []

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return True


class Site:
    def __init__(self, spec: MethodSpec | None) -> None:
        limits = Limits(LimitsConfig(), RecordingEventLog())
        pipeline = Pipeline(cast("Any", OpenGate()), Pools(memory=1, work=1), limits)
        self.handler: Handler = pipeline.handler("/test.Service/Method", spec)
        self._durations = pipeline.counts.durations

    @property
    def counted(self) -> Mapping[tuple[str, ...], int]:
        """Return the counts by type and status code."""
        found = self._durations.read()
        assert all(labels[:2] == ("test.Service", "Method") for labels in found)
        return {labels[2:]: histogram.count for labels, histogram in found.items() if histogram.count}

    def answer(self) -> bytes:
        assert isinstance(self.handler, UnaryHandler)
        return self.handler.answer(b"", AsgiContext({"headers": []}))

    def open(self, stream: FakeStream) -> None:
        assert isinstance(self.handler, StreamHandler)
        self.handler.open(b"", AsgiContext({"headers": []}), stream)


def failing(error: Exception) -> Callable[..., Any]:
    def serve(*_: object) -> Any:
        raise error

    return serve


def cached(lookup: Callable[[bytes], bytes | None], serve: Callable[..., bytes]) -> Cached[Empty]:
    return Cached(RULE, Empty, lookup, serve)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("none"), "NotFound"),
        (InvalidRequestError(), "InvalidArgument"),
        (ServerBusyError("full"), "ResourceExhausted"),
        (RuntimeError("bug"), "Internal"),
    ],
)
def test_a_call_that_fails_counts_under_its_code(error: Exception, code: str) -> None:
    for spec in (Unary(RULE, Empty, failing(error)), cached(lambda _: None, failing(error))):
        site = Site(spec)
        with pytest.raises(AbortedError):
            site.answer()
        assert site.counted == {("unary", code): 1}


def test_a_call_without_an_entry_in_the_table_counts_as_refused() -> None:
    site = Site(None)
    with pytest.raises(AbortedError):
        site.answer()
    assert site.counted == {("unary", "PermissionDenied"): 1}


def test_a_call_that_its_client_has_left_counts_as_cancelled() -> None:
    site = Site(Unary(RULE, Empty, failing(TimeoutError())))
    context = AsgiContext({"headers": []})
    context.end()
    assert isinstance(site.handler, UnaryHandler)
    with pytest.raises(AbortedError):
        site.handler.answer(b"", context)
    assert site.counted == {("unary", "Canceled"): 1}


def test_a_call_that_an_event_loop_leaves_to_a_thread_counts_once() -> None:
    site = Site(cached(lambda _: None, lambda request, data: b"x"))
    assert isinstance(site.handler, UnaryHandler)
    assert site.handler.instant is not None

    assert site.handler.instant(b"", AsgiContext({"headers": []})) is None
    assert site.counted == {}
    assert site.answer() == b"x"
    assert site.counted == {("unary", "OK"): 1}


def test_a_call_that_an_event_loop_answers_counts() -> None:
    site = Site(cached(lambda _: b"known", failing(AssertionError())))
    assert isinstance(site.handler, UnaryHandler)
    assert site.handler.instant is not None

    assert site.handler.instant(b"", AsgiContext({"headers": []})) == (b"known", True)
    assert site.answer() == b"known"
    assert site.counted == {("unary", "OK"): 2}


def test_a_method_shows_as_zero_before_its_first_call() -> None:
    site = Site(Unary(RULE, Empty, lambda request, call: Empty()))
    assert set(site._durations.read()) == {("test.Service", "Method", "unary", "OK")}


def streaming(end: Callable[[Any], None]) -> Stream[Empty]:
    return Stream(RULE, Empty, lambda request, call, stream: end(stream))


def test_a_stream_counts_when_it_ends_with_the_code_that_the_server_gave() -> None:
    kept: list[Any] = []
    site, stream = Site(streaming(kept.append)), FakeStream()
    site.open(stream)
    assert site.counted == {}

    kept[0].end(to_status(ServerBusyError("slow")))
    assert site.counted == {("server_stream", "ResourceExhausted"): 1}


def test_a_stream_that_ends_without_an_error_counts_as_ok() -> None:
    kept: list[Any] = []
    site, stream = Site(streaming(kept.append)), FakeStream()
    site.open(stream)
    kept[0].end(None)
    assert site.counted == {("server_stream", "OK"): 1}


@pytest.mark.parametrize("ended", [False, True])
def test_a_stream_that_its_client_ends_counts_as_cancelled(ended: bool) -> None:
    site, stream = Site(streaming(lambda _: None)), FakeStream(ended=ended)
    site.open(stream)
    if not ended:
        stream.finish()
    assert site.counted == {("server_stream", "Canceled"): 1}


def test_a_stream_that_cannot_be_opened_counts_once() -> None:
    site, stream = Site(streaming(failing(NotFoundError("none")))), FakeStream()
    with pytest.raises(AbortedError):
        site.open(stream)
    stream.finish()
    assert site.counted == {("server_stream", "NotFound"): 1}


@pytest.mark.parametrize(("error", "code"), [(None, "OK"), (NotFoundError("none"), "NotFound")])
def test_a_conversation_counts_once_when_it_ends(error: Exception | None, code: str) -> None:
    context = KeptCallbacks({"headers": []})
    site = Site(Conversation(RULE, Empty, failing(error) if error else lambda request: Empty()))
    assert isinstance(site.handler, ConversationHandler)

    answer = site.handler.open(context)
    if error is None:
        assert answer(b"") == answer(b"") == b""
    else:
        with pytest.raises(AbortedError):
            answer(b"")
    for end in context.callbacks:
        end()
    assert site.counted == {("bidi_stream", code): 1}


def test_every_status_code_has_its_name_in_go() -> None:
    from identity_service.grpc_api.call_counts import _NAMES

    assert len(set(_NAMES.values())) == len(grpc.StatusCode)
    assert {"OK", "Canceled", "DeadlineExceeded", "Unavailable", "DataLoss"} <= set(_NAMES.values())
