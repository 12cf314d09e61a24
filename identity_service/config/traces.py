"""The settings of traces: the collector, and which calls are recorded for it."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from identity_service.config.values import whole


def _check_endpoint(value: str) -> str:
    """Return the text if it is empty or names a collector. Raises ValueError."""
    try:
        url = urlsplit(value)
        named = url.scheme in ("http", "https") and url.hostname and url.port is not None
    except ValueError:  # the port is not a number, or an address is malformed
        named = False
    if value and (not named or "@" in value or url.path or url.query or url.fragment):
        raise ValueError(
            "must be http://host:port, or https://host:port for TLS, of a collector that accepts OTLP over "
            "gRPC; without a path"
        )
    return value


class TraceSettings(BaseModel):
    """The settings of traces, a part of `Settings`."""

    traces_endpoint: Annotated[str, AfterValidator(_check_endpoint)] = Field(
        "",
        description="URL of an OpenTelemetry collector (OTLP over gRPC), as in http://127.0.0.1:4317; "
        "empty = no traces; needs the extra [otel]",
    )
    traces_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of calls that are traced, of those whose caller sends no trace; 0 to 1",
    )
    traces_per_second: int = whole(
        100,
        1,
        10_000,
        "calls that a process traces in a second because their caller asks for it, and as many others",
    )
