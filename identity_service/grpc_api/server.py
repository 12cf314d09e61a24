"""The gRPC server: all servicers behind one pipeline on one engine.

It includes the health service, reflection, and a graceful stop.
"""

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
    """The transport that carries calls to the servicers: grpcio's server, or an ASGI server behind Envoy."""

    def start(self) -> int:
        """Accept calls and return the port; 0 if another process listens. Raises ConfigurationError."""

    def stop(self, grace: float) -> bool:
        """Let calls in progress finish; return whether all finished within `grace` seconds."""


class Pools:
    """The two thread pools that run methods, for every engine."""

    def __init__(self, *, memory: int, work: int) -> None:
        """Create the pools; threads start when calls come.

        Args:
            memory: the number of threads for methods that answer from memory; few, since they share one
                interpreter.
            work: the number of threads for methods that may wait for the store or for argon2id.
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
        """Let running jobs finish and drop the waiting ones; does not wait."""
        self.work.shutdown(wait=False, cancel_futures=True)
        self.memory.shutdown(wait=False, cancel_futures=True)


class Server:
    """All servicers, registered with one engine."""

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
        """Return the pipeline, typed as a server: it has the two methods that generated code calls."""
        return self._pipeline

    def start(self) -> int:
        """Accept calls and return the port; 0 if another process listens. Raises ConfigurationError."""
        self._senders.start()
        self._pools.start()
        return self._engine.start()

    def set_serving(self, *, serving: bool) -> None:
        """Set the status that grpc.health.v1 reports for the server and for each service."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *_SERVICES):
            self._health.set(name, status)

    def stop(self, grace: timedelta) -> bool:
        """Report NOT_SERVING, refuse new calls and let those in progress finish.

        Returns whether all calls finished within `grace`.
        """
        self._health.enter_graceful_shutdown()
        self._senders.stop()
        done = self._engine.stop(grace.total_seconds())
        self._pipeline.stop()
        self._pools.shutdown()
        return done
