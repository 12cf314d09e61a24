"""Opens the engine of a process. Each is imported when it is opened, since most processes have only one."""

from typing import TYPE_CHECKING

from identity_service.domain.ports import EventLog
from identity_service.settings import Settings
from identity_service.transport.limits import Limits
from identity_service.transport.tls import Certificates

if TYPE_CHECKING:
    from identity_service.grpc_api.asgi.engine import AsgiEngine
    from identity_service.grpc_api.grpcio_engine import GrpcioEngine


def open_asgi(settings: Settings, limits: Limits, *, server_bounds_requests: bool = True) -> "AsgiEngine":
    """Return the ASGI application; see its class for `server_bounds_requests`."""
    from identity_service.grpc_api.asgi.engine import AsgiEngine

    size = settings.max_message_bytes
    return AsgiEngine(limits, max_message_bytes=size, server_bounds_requests=server_bounds_requests)


def open_grpcio(
    settings: Settings,
    limits: Limits,
    event_log: EventLog,
    certificates: Certificates | None,
    *,
    share_port: bool,
) -> "GrpcioEngine":
    """Return the grpcio engine, which does not listen yet; see `bootstrap.Service` for `share_port`."""
    from identity_service.grpc_api.grpcio_engine import GrpcioConfig, GrpcioEngine

    config = GrpcioConfig(
        share_port=share_port,
        listen=settings.listen,
        mtls_listen=settings.mtls_listen,
        max_message_bytes=settings.max_message_bytes,
        max_connections=settings.max_connections,
        max_streams_per_connection=settings.max_streams_per_connection,
        max_connection_age=settings.max_connection_age,
        drain_grace=settings.drain_grace,
    )
    return GrpcioEngine(config, limits, event_log, certificates)
