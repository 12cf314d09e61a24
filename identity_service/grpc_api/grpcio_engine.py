"""The grpcio engine: one threaded server, its options and its ports."""

from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc

from identity_service.domain.errors import ConfigurationError
from identity_service.grpc_api.pipeline import Handlers
from identity_service.grpc_api.tls import Certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcioConfig:
    """How the server listens, and its bounds."""

    listen: str = "127.0.0.1:50051"
    """host:port; port 0 takes a free one."""
    mtls_listen: str = ""
    """The same, for a port of its own where client certificates are required; empty = none."""
    max_message_bytes: int = 16 * 1024 * 1024
    max_metadata_bytes: int = 32 * 1024
    max_concurrent_calls: int = 4096
    """Calls beyond these are refused with RESOURCE_EXHAUSTED."""
    max_connection_age: timedelta = timedelta(minutes=30)
    """Connections older than this are asked to reconnect, so that load balancers can rebalance."""
    drain_grace: timedelta = timedelta(seconds=10)
    """How long calls in progress may take to end when the server stops."""
    share_port: bool = False
    """Other processes of this service listen on the same port (SO_REUSEPORT)."""


class GrpcioEngine:
    """Listens and serves by itself."""

    def __init__(
        self, config: GrpcioConfig, pool: Executor, certificates: Certificates | None = None
    ) -> None:
        """Without certificates it speaks plain text; `pool` runs the methods that bring none of their own."""
        self._config = config
        self._certificates = certificates
        self._server = grpc.server(
            pool,  # type: ignore[arg-type]  # any Executor will do
            options=_options(config),
            maximum_concurrent_rpcs=config.max_concurrent_calls,
            compression=grpc.Compression.NoCompression,
        )

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Handlers) -> None:
        self._server.add_registered_method_handlers(service_name, method_handlers)

    def start(self) -> int:
        """Listen; returns the port. Raises ConfigurationError where the address is not to be had."""
        config = self._config
        port = self._listen("listen", config.listen, ask=not config.mtls_listen)
        if config.mtls_listen:
            self._listen("mtls_listen", config.mtls_listen, ask=True)
        self._server.start()
        return port

    def stop(self, grace: float) -> bool:
        """Refuse new calls, let those in progress end; returns whether all did in `grace` seconds."""
        return self._server.stop(grace).wait(grace + 1)

    def _listen(self, setting: str, address: str, *, ask: bool) -> int:
        try:
            if self._certificates is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._certificates.credentials(ask=ask))
        except RuntimeError as error:
            raise ConfigurationError(
                f"cannot listen on {address}: is another process there? (setting: {setting})"
            ) from error


def _options(config: GrpcioConfig) -> list[tuple[str, int]]:
    age = int(config.max_connection_age.total_seconds() * 1000)
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_metadata_size", config.max_metadata_bytes),
        ("grpc.max_connection_age_ms", age),
        ("grpc.max_connection_age_grace_ms", int(config.drain_grace.total_seconds() * 1000)),
        # The documented client setting is a ping every 30 s, also without a call in progress.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Two servers on one port would share it silently; a port that is taken is an error instead.
        ("grpc.so_reuseport", int(config.share_port)),
    ]
