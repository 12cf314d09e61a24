"""The log fields that a call binds to its thread are removed when the call ends."""

from typing import Any, cast

import pytest
import structlog
from google.protobuf.empty_pb2 import Empty

from identity_service.grpc_api.asgi.context import AsgiContext
from identity_service.grpc_api.engine import UnaryHandler
from identity_service.grpc_api.method_spec import Access, Rule, Unary
from identity_service.grpc_api.pipeline import Pipeline
from identity_service.grpc_api.threads import Pools
from identity_service.transport.limits import Limits, LimitsConfig
from tests.fakes.caller_gates import OpenGate
from tests.fakes.event_logs import RecordingEventLog


@pytest.mark.parametrize("quiet", [False, True])
def test_a_quiet_call_binds_no_request_id_to_its_thread(*, quiet: bool) -> None:
    limits = Limits(LimitsConfig(), RecordingEventLog())
    pipeline = Pipeline(cast("Any", OpenGate()), Pools(memory=1, work=1), limits)
    spec = Unary(Rule(access=Access.OPEN, quiet=quiet), Empty, lambda _, __: Empty())
    handler = pipeline.handler("/test.Service/Unary", spec)
    assert isinstance(handler, UnaryHandler)

    with structlog.contextvars.bound_contextvars():
        structlog.contextvars.clear_contextvars()
        handler.answer(b"", AsgiContext({"headers": []}))
        bound = structlog.contextvars.get_contextvars()

    assert ("request_id" in bound) is not quiet
