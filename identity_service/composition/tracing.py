"""Opens tracing as the settings say. The libraries are loaded only if traces are on."""

from identity_service.composition.checks import check_tracing
from identity_service.domain.ports import Clock, EventLog
from identity_service.settings import Settings
from identity_service.telemetry.tracing.parts import Tracing


def open_tracing(settings: Settings, event_log: EventLog, clock: Clock) -> Tracing:
    """Return the tracing of a process, which is off unless `traces_endpoint` is set.

    Raises ConfigurationError.
    """
    if not settings.traces_endpoint:
        return Tracing()
    check_tracing(settings)
    # Imported here, since it is an extra, and takes megabytes.
    from identity_service.telemetry.tracing.otel import OpenTelemetry, TracingConfig

    config = TracingConfig(
        endpoint=settings.traces_endpoint,
        ratio=settings.traces_ratio,
        per_second=settings.traces_per_second,
        store="sqlite" if settings.store.startswith("sqlite") else "redis",
    )
    return OpenTelemetry(config, event_log, clock)
