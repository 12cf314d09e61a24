"""The server: all servicers behind one pipeline on one engine, health and reflection, and a graceful stop."""

from datetime import timedelta
from typing import Any, Final, Protocol

from grpc_health.v1 import health_pb2, health_pb2_grpc

from identity_service.grpc_api import reflection as server_reflection
from identity_service.grpc_api.admin import AdminServicer
from identity_service.grpc_api.callers import CallerGate
from identity_service.grpc_api.health import SERVICE_NAME as HEALTH
from identity_service.grpc_api.health import HealthServicer
from identity_service.grpc_api.identity import IdentityServicer
from identity_service.grpc_api.limits import Limits
from identity_service.grpc_api.pipeline import Pipeline, Registrable
from identity_service.grpc_api.senders import Senders
from identity_service.grpc_api.threads import Threads
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


class Engine(Registrable, Protocol):
    """What carries calls to the servicers: grpcio's server, or an ASGI server in front."""

    def start(self) -> int:
        """Take calls; returns the port, 0 where somebody else listens. Raises ConfigurationError."""

    def stop(self, grace: float) -> bool:
        """Let calls in progress end; returns whether all did in `grace` seconds."""


class Pools:
    """The threads that run methods, whatever the engine."""

    def __init__(self, *, memory: int, work: int) -> None:
        """
        Args:
            memory: threads for what answers from memory; few, since they share one interpreter.
            work: threads for what may wait for the store or for argon2id.
        """
        self.memory = Threads(memory, "identity-memory")
        self.work = Threads(work, "identity-work")

    def start(self) -> None:
        """Make the first thread of each, so that calls are answered also if the system gives no further one.

        Raises ConfigurationError if it gives none now.
        """
        self.memory.start_first()
        self.work.start_first()

    def shutdown(self) -> None:
        """What waits is not begun any more."""
        self.work.shutdown(wait=False, cancel_futures=True)
        self.memory.shutdown(wait=False, cancel_futures=True)


class Server:
    """Serves the servicers."""

    def __init__(
        self,
        engine: Engine,
        pools: Pools,
        identity: IdentityServicer,
        trust: TrustServicer,
        admin: AdminServicer,
        senders: Senders,
        gate: CallerGate,
        limits: Limits,
        *,
        reflection: bool,
    ) -> None:
        self._engine = engine
        self._pools = pools
        self._pipeline = Pipeline(engine, gate, pools.work, limits=limits)
        self._health = HealthServicer(senders)
        self._senders = senders
        identity_service_pb2_grpc.add_IdentityServiceServicer_to_server(identity, self._registrar)
        trust_service_pb2_grpc.add_TrustServiceServicer_to_server(trust, self._registrar)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(admin, self._registrar)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._registrar)
        if reflection:
            server_reflection.add_to(self._registrar, (*_SERVICES, HEALTH))
        self.set_serving(serving=False)

    @property
    def _registrar(self) -> Any:
        """The pipeline has the two methods of a server that generated code calls."""
        return self._pipeline

    def start(self) -> int:
        """Take calls; returns the port, 0 where somebody else listens. Raises ConfigurationError."""
        self._senders.start()
        self._pools.start()
        return self._engine.start()

    def set_serving(self, *, serving: bool) -> None:
        """What grpc.health.v1 says of the server and of each service."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *_SERVICES):
            self._health.set(name, status)

    def stop(self, grace: timedelta) -> bool:
        """NOT_SERVING, refuse new calls, let those in progress end; returns whether all did in `grace`."""
        self._health.enter_graceful_shutdown()
        self._senders.stop()
        done = self._engine.stop(grace.total_seconds())
        self._pipeline.stop()
        self._pools.shutdown()
        return done
