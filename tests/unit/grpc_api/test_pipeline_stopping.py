"""The status of calls that fail because the process stops: cancelled work, or a store that is closed."""

from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, cast

import pytest
from google.protobuf.empty_pb2 import Empty
from google.rpc import error_details_pb2, status_pb2

from identity_service.domain.errors import NotConfirmedError, StoreFencedError, StoreUnavailableError
from identity_service.grpc_api.asgi.context import AbortedError, AsgiContext
from identity_service.grpc_api.engine import ConversationHandler, StreamHandler, UnaryHandler
from identity_service.grpc_api.method_spec import Access, Conversation, MethodSpec, Rule, Stream, Unary
from identity_service.grpc_api.pipeline import Pipeline
from identity_service.grpc_api.threads import Pools
from identity_service.transport.limits import Limits, LimitsConfig
from tests.fakes.caller_gates import OpenGate
from tests.fakes.event_logs import RecordingEventLog
from tests.fakes.streams import FakeStream

RULE = Rule(access=Access.OPEN)


class Site:
    def __init__(self) -> None:
        self.error: Exception = AssertionError("no error was set")
        limits = Limits(LimitsConfig(), RecordingEventLog())
        self.pipeline = Pipeline(cast("Any", OpenGate()), Pools(memory=1, work=1), limits)
        self._specs: dict[str, MethodSpec] = {
            "Unary": Unary(RULE, Empty, self._fail),
            "Stream": Stream(RULE, Empty, self._fail),
            "Conversation": Conversation(RULE, Empty, self._fail),
        }

    def _fail(self, *_: Any) -> Any:
        raise self.error

    def _call(self, kind: str, context: AsgiContext) -> None:
        match self.pipeline.handler(f"/test.Service/{kind}", self._specs[kind]):
            case UnaryHandler() as unary:
                unary.answer(b"", context)
            case StreamHandler() as stream:
                stream.open(b"", context, FakeStream())
            case ConversationHandler() as conversation:
                conversation.open(context)(b"")

    def reason(self, kind: str, error: Exception) -> str:
        """Return the reason that the client gets when the use case raises this error."""
        self.error = error
        context = AsgiContext({"headers": []})
        with pytest.raises(AbortedError):
            self._call(kind, context)
        status = status_pb2.Status.FromString(
            cast("bytes", dict(context.trailing_metadata())["grpc-status-details-bin"])
        )
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        return str(info.reason)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    return lambda: "".join(capsys.readouterr())


every_kind = pytest.mark.parametrize("kind", ["Unary", "Stream", "Conversation"])


@every_kind
def test_a_call_whose_work_was_cancelled_is_refused_since_the_process_stops(
    site: Site, kind: str, logged: Callable[[], str]
) -> None:
    assert site.reason(kind, CancelledError()) == "SHUTTING_DOWN"
    assert "rpc_bug" not in logged()


@every_kind
def test_a_call_that_finds_the_store_closed_by_the_stop_is_refused_since_the_process_stops(
    site: Site, kind: str
) -> None:
    closed = StoreUnavailableError("the store is closed")
    assert site.reason(kind, closed) == "STORE_UNAVAILABLE"

    site.pipeline.stop()

    assert site.reason(kind, closed) == "SHUTTING_DOWN"


@pytest.mark.parametrize(
    "error", [NotConfirmedError("too few copies confirmed it"), StoreFencedError("redis://other")]
)
def test_the_outcome_of_a_change_is_reported_even_while_the_process_stops(
    site: Site, error: StoreUnavailableError
) -> None:
    site.pipeline.stop()

    assert site.reason("Unary", error) == error.reason
