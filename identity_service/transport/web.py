"""The rules for gRPC-Web, which both engines follow: paths, origins and headers of browsers (CORS).

The grpcio engine follows them in `grpc_api/asgi/web.py`, the Envoy engine by the filters in `envoy/web.py`.
"""

from typing import Final

PATHS: Final = ("/identityapi.v1.", "/grpc.health.v1.")
"""The beginnings of the paths that gRPC-Web serves."""
METHOD: Final = "POST"
REQUEST_HEADERS: Final = (
    "content-type",
    "x-grpc-web",
    "x-user-agent",
    "authorization",
    "dpop",
    "x-request-id",
    "grpc-timeout",
    "traceparent",
    "tracestate",
)
"""The headers that a page of an allowed origin may send."""
RESPONSE_HEADERS: Final = (
    "grpc-status",
    "grpc-message",
    "grpc-status-details-bin",
    "x-request-id",
    "dpop-nonce",
)
"""The headers that such a page may read. A status without a message arrives in headers."""
MAX_AGE: Final = 600
"""Seconds for which a browser may remember the answer to a preflight."""
