"""The gRPC server: all methods behind one pipeline on one engine.

It includes the health service, reflection, and a graceful stop.
"""

from datetime import timedelta

from grpc_health.v1 import health_pb2

from identity_service.grpc_api.admin import AdminServicer
from identity_service.grpc_api.audit import AuditHandlers
from identity_service.grpc_api.engine import Engine
from identity_service.grpc_api.ext_authz.servicer import ExtAuthzServicer
from identity_service.grpc_api.gate import CallerGate
from identity_service.grpc_api.health import SERVICE_NAME as HEALTH
from identity_service.grpc_api.health import HealthServicer
from identity_service.grpc_api.issue import IssueServicer
from identity_service.grpc_api.methods import METHODS, SERVICES, method_table
from identity_service.grpc_api.pipeline import Pipeline
from identity_service.grpc_api.reflection import ReflectionServicer
from identity_service.grpc_api.revoke import RevokeServicer
from identity_service.grpc_api.senders import Senders
from identity_service.grpc_api.threads import Pools
from identity_service.grpc_api.trust import TrustServicer
from identity_service.grpc_api.verify import VerifyServicer
from identity_service.telemetry.counters import DurationsByLabels
from identity_service.transport.limits import Limits


class Server:
    """All methods, registered with one engine."""

    def __init__(
        self,
        engine: Engine,
        pools: Pools,
        issue: IssueServicer,
        verify: VerifyServicer,
        revoke: RevokeServicer,
        trust: TrustServicer,
        admin: AdminServicer,
        audit: AuditHandlers,
        ext_authz: ExtAuthzServicer,
        senders: Senders,
        gate: CallerGate,
        limits: Limits,
        *,
        reflection: bool,
    ) -> None:
        self._engine = engine
        self._pools = pools
        self._pipeline = Pipeline(gate, pools, limits)
        self._health = HealthServicer(senders)
        self._senders = senders
        reflecting = ReflectionServicer((*SERVICES, HEALTH)) if reflection else None
        table = method_table(issue, verify, revoke, trust, admin, audit, ext_authz, self._health, reflecting)
        for method in {*METHODS, *table}:
            engine.register(method, self._pipeline.handler(method, table.get(method)))
        self.set_serving(serving=False)

    @property
    def durations(self) -> DurationsByLabels:
        """Return the number and the durations of the calls that have ended, by method and status."""
        return self._pipeline.counts.durations

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
        for name in ("", *SERVICES):
            self._health.set(name, status)

    def is_serving(self) -> bool:
        """Return whether grpc.health.v1 reports SERVING for the server."""
        return self._health.is_serving

    def end_revoked(self) -> None:
        """End the streams whose callers have been revoked. It may wait for the store."""
        self._pipeline.streams.end_revoked()

    def drain(self, grace: timedelta) -> bool:
        """Report NOT_SERVING, refuse new calls and let those in progress finish.

        Returns whether all calls finished within `grace`.
        """
        self._health.enter_graceful_shutdown()
        self._senders.stop()
        return self._engine.stop(grace.total_seconds())

    def stop(self) -> None:
        """Tell the threads to end, after `drain`."""
        self._pipeline.stop()
        self._pools.shutdown()
