"""Opens tracing as the settings say. The libraries are loaded only if traces are on."""

from importlib.util import find_spec

from identity_service.domain.errors import ConfigurationError
from identity_service.domain.ports import Clock, EventLog
from identity_service.settings import Settings
from identity_service.telemetry.tracing.parts import Tracing

_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.grpc")


def check_tracing(settings: Settings) -> None:
    """Raise ConfigurationError if the settings ask for traces, and the extra for them is not installed."""
    if settings.traces_endpoint and not all(map(_is_installed, _PACKAGES)):
        raise ConfigurationError(
            "traces_endpoint: OpenTelemetry is not installed; pip install 'identity-service[otel]'"
        )


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


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False
