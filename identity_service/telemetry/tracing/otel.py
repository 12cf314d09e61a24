"""Tracing with OpenTelemetry: spans are exported by OTLP over gRPC. Needs the extra [otel].

The exporter reads its further options from the environment (`OTEL_EXPORTER_OTLP_…`), as every program with
OpenTelemetry's SDK does. Neither the tracer nor the exporter is made the global one of the process.
"""

import logging
import os
import threading
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, cast

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind

from identity_service.domain.errors import ConfigurationError
from identity_service.domain.ports import Clock, EventLog, KeyVault, PasswordHasher
from identity_service.grpc_api.engine import Engine
from identity_service.replication.rate_limited_event import RateLimitedEvent
from identity_service.telemetry.measured_store import Wrap
from identity_service.telemetry.tracing.calls import TracedEngine
from identity_service.telemetry.tracing.parts import Tracing
from identity_service.telemetry.tracing.requests import TracedHttpApp
from identity_service.telemetry.tracing.sampling import Sampling
from identity_service.telemetry.tracing.signing import TracedHasher, TracedVault
from identity_service.telemetry.tracing.spans import Spans
from identity_service.transport.asgi import AsgiApp

_NAME: Final = "identity-service"
_QUEUE: Final = 2048
"""The number of spans that may wait for the collector; the oldest are dropped beyond it."""
_BATCH: Final = 512
_DELAY_MS: Final = 1000
"""The time that the first span of a batch waits for others."""
_FLUSH: Final = 0.5
"""Seconds that `close` waits until the collector has the queued spans. Together with the other waits of a
stop that is less than `process.last_resort` allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingConfig:
    """The collector, and the calls that are recorded for it."""

    endpoint: str
    """The URL of the collector."""
    ratio: float
    """The share of calls that are recorded if their callers send no trace."""
    per_second: int
    """The most calls that are recorded in a second, see `Sampling`."""
    store: str
    """The name of the kind of store, such as `redis`."""


class OpenTelemetry(Tracing):
    """Tracing that is on: every part is wrapped, and records spans for one collector."""

    def __init__(self, config: TracingConfig, event_log: EventLog, clock: Clock) -> None:
        """Prepare the export; it begins with `start`.

        Raises ConfigurationError if the exporter cannot use the environment.
        """
        self._exporter = _exporter(config.endpoint)
        self._failures = RateLimitedEvent("traces_not_exported", event_log, clock, endpoint=config.endpoint)
        # `Sampling` decides before a span is made, and `close` shuts the provider down.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=_resource(), shutdown_on_exit=False)
        sampling = Sampling(config.ratio, config.per_second, clock.monotonic)
        self._spans = Spans(self._provider.get_tracer(_NAME), sampling)
        self._store = config.store

    def engine(self, engine: Engine) -> Engine:
        """Return the engine with a span around each call."""
        return TracedEngine(engine, self._spans)

    def http(self, app: AsgiApp, routes: Collection[str]) -> AsgiApp:
        """Return the HTTP application, which has these paths, with a span around each request."""
        return TracedHttpApp(app, self._spans, routes)

    def wrap_operation(self) -> Wrap:
        """Return the function that puts a span around a method of a store."""
        return self._traced_operation

    def _traced_operation(self, method: Callable[..., Any], operation: str) -> Callable[..., Any]:
        attributes = {"db.system.name": self._store, "db.operation.name": operation}
        return self._spans.traced(method, operation, attributes, kind=SpanKind.CLIENT)

    def vault(self, vault: KeyVault) -> KeyVault:
        """Return the vault; its keys sign with a span around it."""
        return cast("KeyVault", TracedVault(vault, self._spans))

    def hasher(self, hasher: PasswordHasher) -> PasswordHasher:
        """Return the hasher with a span around each hash."""
        return TracedHasher(hasher, self._spans)

    def start(self) -> None:
        """Start to export. Raises RuntimeError if the system gives no thread."""
        # The SDK logs each attempt that fails; the event `traces_not_exported` reports them together.
        if not logging.getLogger("identity").isEnabledFor(logging.DEBUG):
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = _ReportingExporter(self._exporter, self._failures.happened)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=_QUEUE,
                max_export_batch_size=_BATCH,
                schedule_delay_millis=_DELAY_MS,
            )
        )

    def close(self) -> None:
        """Export the recorded spans for at most half a second, and stop; the others are lost."""
        # In a thread, since the SDK waits 30 s for a collector that does not answer.
        flushing = threading.Thread(target=self._provider.shutdown, name="identity-traces", daemon=True)
        try:
            flushing.start()
            flushing.join(_FLUSH)
        except RuntimeError:  # the system gives no thread
            pass
        finally:
            self._exporter.shutdown()


class _ReportingExporter(SpanExporter):
    """An exporter that passes batches to another exporter, and reports each batch that was lost."""

    def __init__(self, exporter: SpanExporter, report: Callable[[], None]) -> None:
        self._exporter = exporter
        self._report = report

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch; return whether the collector has it."""
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001  # a bug of the library must not go unnoticed, nor end the thread
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._report()
        return result

    def shutdown(self) -> None:
        """Do nothing: `OpenTelemetry.close` stops the other exporter."""


def _exporter(endpoint: str) -> OTLPSpanExporter:
    try:
        return OTLPSpanExporter(endpoint=endpoint)
    except Exception as error:  # each kind of invalid variable raises another class
        raise ConfigurationError(
            f"traces_endpoint: a variable OTEL_EXPORTER_OTLP_… of the environment is invalid: {error}"
        ) from error


def _resource() -> Resource:
    """Return the description of this process; the environment may change and add attributes."""
    own: dict[str, str | int] = {
        "service.name": _NAME,
        "service.version": version(_NAME),
        "service.instance.id": str(uuid.uuid4()),
        "process.pid": os.getpid(),
    }
    return Resource.create(own).merge(OTELResourceDetector().detect())
