"""The handlers of the pipeline: cached responses, and callers that must prove themselves."""

from typing import Any, cast

import pytest

from identity_service.domain.credential_errors import CallerUnauthenticatedError
from identity_service.domain.ids import PrincipalId
from identity_service.grpc_api.asgi.context import AbortedError, AsgiContext
from identity_service.grpc_api.calls import Caller
from identity_service.grpc_api.engine import ConversationHandler, InstantResponse, UnaryHandler
from identity_service.grpc_api.method_spec import Access, Cached, Conversation, MethodSpec, Pool, Rule
from identity_service.grpc_api.pipeline import Pipeline
from identity_service.grpc_api.proofs import CallProofs
from identity_service.grpc_api.threads import Pools
from identity_service.services.verify import StoreReadRequiredError
from identity_service.transport.limits import Limits, LimitsConfig
from identityapi.v1 import identity_service_pb2 as pb
from tests.fakes.event_logs import RecordingEventLog

METHOD = "/test.Service/Method"
OPEN = Rule(access=Access.OPEN, pool=Pool.MEMORY)
CALLER = Caller(principal=PrincipalId("c"), scopes=frozenset())


class Gate:
    """A gate that requires a caller except for open methods, and always finds the caller it was given."""

    proofs = CallProofs((), lambda: None)

    def __init__(self, found: Caller | Exception = CALLER) -> None:
        self._found = found
        self.waited: list[bool] = []

    def applies(self, rule: Rule, request: object) -> bool:
        return rule.access is not Access.OPEN

    def admit(self, method: str, rule: Rule, context: object, *, may_wait: bool = True) -> Caller:
        self.waited.append(may_wait)
        if not may_wait:
            raise StoreReadRequiredError
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def handler_of(spec: MethodSpec, gate: Gate | None = None) -> Any:
    limits = Limits(LimitsConfig(), RecordingEventLog())
    pipeline = Pipeline(cast("Any", gate or Gate()), Pools(memory=1, work=1), limits)
    return pipeline.handler(METHOD, spec)


def context() -> AsgiContext:
    return AsgiContext({"headers": []})


def test_an_event_loop_does_not_wait_for_a_read_about_the_caller() -> None:
    """The token may name a generation that this process has not read; then a thread reads it and answers."""
    gate = Gate()
    rule = Rule(access=Access.SCOPE, scope="s", pool=Pool.MEMORY)
    found = handler_of(
        Cached(rule, pb.VerifyRequest, lambda data: None, lambda request, data: b"answer"), gate
    )
    assert isinstance(found, UnaryHandler)
    assert found.instant is not None

    assert found.instant(b"", context()) is None
    assert gate.waited == [False]
    assert found.answer(b"", context()) == b"answer"
    assert gate.waited == [False, True]


def test_a_cached_response_is_given_to_no_caller_that_is_refused() -> None:
    rule = Rule(access=Access.SCOPE, scope="s", pool=Pool.MEMORY)
    spec = Cached(rule, pb.VerifyRequest, lambda data: b"cached", lambda request, data: b"answer")

    with pytest.raises(AbortedError):
        handler_of(spec, Gate(CallerUnauthenticatedError("no token"))).answer(b"", context())
    assert handler_of(spec).answer(b"", context()) == b"cached"


def test_an_event_loop_answers_what_is_quick_and_leaves_the_rest_to_a_thread() -> None:
    """A long request, or one whose answer may have to wait, must not hold up the loop's other calls."""
    answers: dict[str, bytes | None] = {"quick": b"at once", "slow": None}

    def serve_now(request: pb.VerifyRequest, data: bytes) -> bytes | None:
        if request.token == "unread":
            raise StoreReadRequiredError
        return answers[request.token]

    spec = Cached(
        OPEN, pb.VerifyRequest, lambda data: None, lambda request, data: b"answer", serve_now=serve_now
    )
    handler = handler_of(spec)

    def instant(token: str, audience: str = "") -> InstantResponse | None:
        data = pb.VerifyRequest(token=token, audiences=[audience]).SerializeToString()
        assert handler.answer(data, context()) == b"answer"
        answer: InstantResponse | None = handler.instant(data, context())
        return answer

    at_once = (b"at once", False)
    assert [instant(token) for token in ("quick", "slow", "unread")] == [at_once, None, None]
    assert [instant("quick", "x" * size) for size in (16_000, 16_400)] == [at_once, None]


@pytest.mark.parametrize("access", [Access.OPEN, Access.SCOPE])
def test_an_event_loop_reads_no_request_of_a_great_length(access: Access) -> None:
    """It neither hashes nor parses the request, and leaves the check of the caller to a thread."""
    gate, looked_up = Gate(), list[bytes]()
    rule = Rule(access=access, scope="s", pool=Pool.MEMORY)

    def lookup(data: bytes) -> bytes:
        looked_up.append(data)
        return b"cached"

    spec = Cached(rule, pb.VerifyRequest, lookup, lambda request, data: b"answer", max_bytes=None)
    handler = handler_of(spec, gate)
    data = pb.VerifyRequest(token="x" * 64 * 1024).SerializeToString()

    assert handler.instant(data, context()) is None
    assert (looked_up, gate.waited) == ([], [])
    assert handler.answer(data, context()) == b"cached"


def test_a_conversation_that_needs_a_caller_does_not_open_without_one() -> None:
    rule = Rule(access=Access.SCOPE, scope="s")
    spec = Conversation(rule, pb.VerifyRequest, lambda request: pb.VerifyResponse())

    refusing = handler_of(spec, Gate(CallerUnauthenticatedError("no token")))
    assert isinstance(refusing, ConversationHandler)
    with pytest.raises(AbortedError):
        refusing.open(context())
    assert handler_of(spec).open(context())(b"") == b""
