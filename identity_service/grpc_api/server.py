"""The grpcio engine: one threaded server, its options, health and reflection, and a graceful stop."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from identity_service.domain.errors import ConfigurationError
from identity_service.grpc_api.admin import AdminServicer
from identity_service.grpc_api.callers import CallerGate
from identity_service.grpc_api.identity import IdentityServicer
from identity_service.grpc_api.pipeline import Pipeline
from identity_service.grpc_api.senders import Senders
from identity_service.grpc_api.threads import Threads
from identity_service.grpc_api.tls import Certificates
from identity_service.grpc_api.trust import TrustServicer
from identityapi.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    identity_service_pb2,
    identity_service_pb2_grpc,
    trust_service_pb2,
    trust_service_pb2_grpc,
)

_SERVICES: Final = (
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name,
    identity_service_pb2.DESCRIPTOR.services_by_name["IdentityService"].full_name,
    trust_service_pb2.DESCRIPTOR.services_by_name["TrustService"].full_name,
)
_REFLECTION: Final = "grpc.reflection.v1.ServerReflection"
_REFLECTION_ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How the server listens, and its bounds."""

    listen: str = "127.0.0.1:50051"
    """host:port; port 0 takes a free one."""
    mtls_listen: str = ""
    """The same, for a port of its own where client certificates are required; empty = none."""
    max_message_bytes: int = 16 * 1024 * 1024
    max_metadata_bytes: int = 32 * 1024
    memory_threads: int = 4
    """For what answers from memory; few, since they share one interpreter."""
    work_threads: int = 32
    """For what may wait for the store or for argon2id."""
    max_concurrent_calls: int = 4096
    """Calls beyond these are refused with RESOURCE_EXHAUSTED."""
    max_connection_age: timedelta = timedelta(minutes=30)
    """Connections older than this are asked to reconnect, so that load balancers can rebalance."""
    drain_grace: timedelta = timedelta(seconds=10)
    """How long calls in progress may take to end when the server stops."""
    reflection: bool = True
    share_port: bool = False
    """Other processes of this service listen on the same port (SO_REUSEPORT)."""


class Server:
    """Serves the servicers on one port."""

    def __init__(
        self,
        config: ServerConfig,
        identity: IdentityServicer,
        trust: TrustServicer,
        admin: AdminServicer,
        senders: Senders,
        gate: CallerGate,
        certificates: Certificates | None = None,
    ) -> None:
        """Without certificates it speaks plain text."""
        self._config = config
        self._certificates = certificates
        self._memory = Threads(config.memory_threads, "identity-memory")
        self._work = Threads(config.work_threads, "identity-work")
        self._server = grpc.server(
            self._memory,
            options=_options(config),
            maximum_concurrent_rpcs=config.max_concurrent_calls,
            compression=grpc.Compression.NoCompression,
        )
        self._pipeline = Pipeline(self._server, gate, self._work)
        self._health = health.HealthServicer(experimental_non_blocking=True)
        self._senders = senders
        identity_service_pb2_grpc.add_IdentityServiceServicer_to_server(identity, self._registrar)
        trust_service_pb2_grpc.add_TrustServiceServicer_to_server(trust, self._registrar)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(admin, self._registrar)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._registrar)
        if config.reflection:
            self._add_reflection()
        self.set_serving(serving=False)

    @property
    def _registrar(self) -> Any:
        """The pipeline has the two methods of a server that generated code calls."""
        return self._pipeline

    def _add_reflection(self) -> None:
        names = (*_SERVICES, health.SERVICE_NAME, _REFLECTION)
        servicer = reflection.ReflectionServicer(names)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, self._registrar)
        # grpcio-reflection speaks v1alpha only; v1 has the same messages under another name.
        alpha = _Capture()
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, alpha)
        self._pipeline.add_registered_method_handlers(_REFLECTION, alpha.handlers[_REFLECTION_ALPHA])

    def start(self) -> int:
        """Listen; returns the port. Raises ConfigurationError where the address is not to be had."""
        config = self._config
        port = self._listen("listen", config.listen, ask=not config.mtls_listen)
        if config.mtls_listen:
            self._listen("mtls_listen", config.mtls_listen, ask=True)
        self._senders.start()
        self._server.start()
        return port

    def _listen(self, setting: str, address: str, *, ask: bool) -> int:
        try:
            if self._certificates is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._certificates.credentials(ask=ask))
        except RuntimeError as error:
            raise ConfigurationError(
                f"cannot listen on {address}: is another process there? (setting: {setting})"
            ) from error

    def set_serving(self, *, serving: bool) -> None:
        """What grpc.health.v1 says of the server and of each service."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *_SERVICES):
            self._health.set(name, status)

    def stop(self) -> bool:
        """NOT_SERVING, refuse new calls, let those in progress end; returns whether all did in time."""
        self._health.enter_graceful_shutdown()
        self._senders.stop()
        grace = self._config.drain_grace.total_seconds()
        done = self._server.stop(grace).wait(grace + 1)
        self._work.shutdown(wait=False, cancel_futures=True)
        self._memory.shutdown(wait=False, cancel_futures=True)
        return done


class _Capture:
    """Takes the handlers that generated code registers, to register them under another name."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Comes with the same handlers as the other method."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        self.handlers[service_name] = method_handlers


def _options(config: ServerConfig) -> list[tuple[str, int]]:
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
