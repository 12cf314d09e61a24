"""The grpcio engine: one grpcio server, its options and its ports. `core/` receives and sends for it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import grpc

from identity_service.domain.ports import EventLog
from identity_service.grpc_api.core.check import why_not
from identity_service.grpc_api.core.fallback import BlockingServing
from identity_service.grpc_api.core.serving import CompletionServing
from identity_service.grpc_api.engine import (
    MAX_METADATA_BYTES,
    ConversationHandler,
    Handler,
    StreamHandler,
    UnaryHandler,
)
from identity_service.grpc_api.tls import server_credentials
from identity_service.process import cores
from identity_service.process.addresses import why_not_bound, with_port
from identity_service.transport.limits import Limits
from identity_service.transport.tls import Certificates

_CANCEL_WAIT: Final = 0.5
"""The number of seconds that the server may take to end the calls that it has cancelled."""
_CANCEL_DELAY: Final = 0.1
"""The number of seconds after the grace period at which the server cancels the remaining calls.

Until then `stop` has read whether calls are still in progress.
"""
_HANDSHAKE_MS: Final = 20_000
_SETTINGS_MS: Final = 10_000
_MAX_PENDING: Final = 20_000
"""The number of calls that may wait in gRPC's core until Python accepts or refuses them.

Above its default of 1,000 the core cancels calls at random, including those of other clients.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcioConfig:
    """The addresses of the server, and the limits that gRPC's core enforces; `Limits` has the others."""

    listen: str = "127.0.0.1:50051"
    """The address to listen on, as host:port; port 0 stands for a free port."""
    mtls_listen: str = ""
    """The host:port of an additional port that requires client certificates; empty = no such port."""
    max_message_bytes: int = 16 * 1024 * 1024
    max_connections: int = 20_000
    """The largest number of connections; a further one is closed as soon as it is opened."""
    max_streams_per_connection: int = 100
    """The number of calls in progress on one connection; further calls wait in the client."""
    max_connection_age: timedelta = timedelta(minutes=30)
    """The age from which the client of a connection is asked to reconnect, so that load balancers can
    rebalance."""
    drain_grace: timedelta = timedelta(seconds=10)
    """The time that calls in progress have to finish if the server stops or their connection is too old."""
    share_port: bool = False
    """True if other processes of this service listen on the same port (SO_REUSEPORT)."""


class GrpcioEngine:
    """An engine that listens and serves with a grpcio server in this process."""

    def __init__(
        self,
        config: GrpcioConfig,
        limits: Limits,
        event_log: EventLog,
        certificates: Certificates | None = None,
    ) -> None:
        """Create a server that does not listen yet.

        Args:
            config: the addresses and limits.
            limits: the bounds on the calls and streams that clients may hold open.
            event_log: receives an event if the installed grpcio does not work with `core/`.
            certificates: the certificates that the server presents; None = plain text.
        """
        self._config = config
        self.places: dict[str, str] = {}
        """host:port of each listener, by its setting; known after `start`."""
        self._certificates = certificates
        # With one core, to hand a call over costs less than the shorter batches of a thread that answers
        # itself; with several, the threads would wait for each other's cores (docs/decisions/0034).
        self._serving: CompletionServing | BlockingServing = CompletionServing(
            limits, config.max_message_bytes, at_once=cores.available() > 1
        )
        if reason := why_not():
            event_log.record("grpcio_fallback", reason=reason)
            self._serving = BlockingServing(limits, config.max_message_bytes)
        self._server = grpc.server(
            self._serving.default,
            options=_options(config),
            maximum_concurrent_rpcs=self._serving.max_calls,
            compression=grpc.Compression.NoCompression,
        )

    def register(self, method: str, handler: Handler) -> None:
        """Serve a method with this handler; its calls hold no thread while their client is slow."""
        serving = self._serving
        served: Any
        match handler:
            case UnaryHandler():
                served = grpc.unary_unary_rpc_method_handler(serving.unary(handler))
            case StreamHandler():
                served = grpc.unary_stream_rpc_method_handler(serving.stream(handler))
            case ConversationHandler():
                served = grpc.stream_stream_rpc_method_handler(serving.conversation(handler))
        _, service, name = method.split("/")
        self._server.add_registered_method_handlers(service, {name: served})

    def start(self) -> int:
        """Listen and return the port. Raises ConfigurationError if an address cannot be bound."""
        config = self._config
        port = self._listen("listen", config.listen, ask=not config.mtls_listen)
        if config.mtls_listen:
            self._listen("mtls_listen", config.mtls_listen, ask=True)
        self._serving.start()
        self._server.start()
        return port

    def stop(self, grace: float) -> bool:
        """Refuse new calls and let those in progress finish.

        Returns whether all finished within `grace` seconds.
        """
        try:
            ended = self._server.stop(grace + _CANCEL_DELAY)
        except RuntimeError:  # the system gives no thread to wait for the grace
            ended, grace = self._server.stop(None), 0.0
        # An idle connection delays the end of the server, but nothing is lost when it is closed.
        done = ended.wait(grace) or not self._serving.is_busy
        ended.wait(_CANCEL_DELAY + _CANCEL_WAIT)
        self._serving.close()
        return done

    def _listen(self, setting: str, address: str, *, ask: bool) -> int:
        try:
            if self._certificates is None:
                port = self._server.add_insecure_port(address)
            else:
                credentials = server_credentials(self._certificates, ask=ask)
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise why_not_bound(address, setting) from error
        self.places[setting] = with_port(address, port)
        return port


def _options(config: GrpcioConfig) -> list[tuple[str, int]]:
    age = int(config.max_connection_age.total_seconds() * 1000)
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        # `core/` decompresses requests, each in the thread of its call and no more of it than its method
        # accepts. gRPC's core would decompress all of it, 16 KB to 16 MiB, in its thread for all calls.
        ("grpc.per_message_decompression", 0),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.max_concurrent_streams", config.max_streams_per_connection),
        ("grpc.server.max_pending_requests", _MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * _MAX_PENDING),
        # A connection that does not finish TLS or acknowledge the HTTP/2 settings in time is closed.
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.http2.settings_timeout", _SETTINGS_MS),
        # Otherwise the windows of streams grow to megabytes, which calls that wait to be refused could fill.
        # While a message is received, its stream has a window of the size of the message all the same.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_connection_age_ms", age),
        ("grpc.max_connection_age_grace_ms", int(config.drain_grace.total_seconds() * 1000)),
        # The documented keepalive of clients is a ping every 30 s, even without a call in progress.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Only this option bounds how long the core waits for the answer to its own ping; its default is 60 s.
        ("grpc.http2.ping_timeout_ms", 20_000),
        # With SO_REUSEPORT two servers share a port silently; without it a port in use is an error.
        ("grpc.so_reuseport", int(config.share_port)),
    ]
