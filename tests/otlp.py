"""An OpenTelemetry collector for tests: receives spans by OTLP over gRPC and keeps them. Asserts nothing."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.patience import until
from tests.tls import Holder


@dataclass(frozen=True, kw_only=True)
class Received:
    """A span that the collector has received."""

    name: str
    trace_id: str
    span_id: str
    parent: str
    """The id of the parent span; empty if the span has none."""
    kind: str
    state: str
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]
    began: int
    ended: int


class Collector(TraceServiceServicer):
    """A collector that keeps the spans it receives. Any thread may call any method."""

    def __init__(self) -> None:
        self.address = ""
        self.metadata: list[dict[str, str | bytes]] = []
        self.hold: threading.Event | None = None
        """If set, the collector answers only after this event; None = it answers at once."""
        self._requests: list[ExportTraceServiceRequest] = []

    def Export(  # noqa: N802  # the name is that of the service
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        self.metadata.append(dict(context.invocation_metadata()))
        self._requests.append(request)
        if self.hold is not None:
            self.hold.wait()
        return ExportTraceServiceResponse()

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}"

    @property
    def bytes(self) -> bytes:
        """Return all messages that have arrived, serialised."""
        return b"".join(request.SerializeToString() for request in list(self._requests))

    @property
    def spans(self) -> list[Received]:
        return [
            _received(span, _values(group.resource.attributes))
            for request in list(self._requests)
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str) -> list[Received]:
        """Return the spans of this name."""
        return [span for span in self.spans if span.name == name]

    def await_named(self, name: str, count: int = 1) -> list[Received]:
        """Wait until at least `count` spans of this name have arrived, and return them."""
        until(lambda: len(self.named(name)) >= count)
        return self.named(name)


@contextmanager
def collecting(holder: Holder | None = None) -> Iterator[Collector]:
    """Run a collector until the block ends, with the certificate of `holder` if it is given."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    if holder is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (holder.key_file.read_bytes(), holder.certificate_file.read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    collector.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield collector
    finally:
        if collector.hold is not None:
            collector.hold.set()
        server.stop(None).wait()


def _received(span: Span, resource: dict[str, Any]) -> Received:
    return Received(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        state=span.trace_state,
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        attributes=_values(span.attributes),
        resource=resource,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
    )


def _values(attributes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    attribute: KeyValue
    for attribute in attributes:
        value = attribute.value
        found[attribute.key] = getattr(value, value.WhichOneof("value") or "string_value")
    return found
