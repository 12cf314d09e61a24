"""The composition root: the only module that knows every concrete class. Read this first.

settings → store → replica ← follower        (memory follows the log)   opening.py
             ↓        ↓
           use cases: issue, verify, refresh, revoke, administration    wiring.py
                      ↓
           servicers → pipeline → gRPC server                           here
"""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from identity_service.adapters.clock import SystemClock
from identity_service.adapters.password_hashing import end_processes
from identity_service.composition.opening import (
    key_policy,
    limits_config,
    open_counter,
    open_hasher,
    open_issuer_keys,
    open_principals,
    open_store,
    open_vault,
    tls_files,
)
from identity_service.composition.wiring import Parts, UseCases, store_administration
from identity_service.domain.copying import CopyableStore
from identity_service.domain.log import Marks
from identity_service.domain.ports import Clock, EventLog
from identity_service.domain.store import Store
from identity_service.grpc_api.admin import AdminServicer
from identity_service.grpc_api.asgi.engine import AsgiEngine
from identity_service.grpc_api.audit import AuditHandlers
from identity_service.grpc_api.callers import CallerGate
from identity_service.grpc_api.grpcio_engine import GrpcioConfig, GrpcioEngine
from identity_service.grpc_api.identity import IdentityServicer
from identity_service.grpc_api.limits import Limits
from identity_service.grpc_api.senders import Senders
from identity_service.grpc_api.server import Engine, Pools, Server
from identity_service.grpc_api.tls import Certificates
from identity_service.grpc_api.trust import TrustServicer
from identity_service.grpc_api.trust_messages import WatchRenderer, max_age
from identity_service.process import thread_limit
from identity_service.replication.follower import Follower
from identity_service.replication.maintenance import retention_for
from identity_service.replication.replica import Replica, ReplicaConfig
from identity_service.services.admin.administration import Administration
from identity_service.services.key_keeper import KeyKeeper
from identity_service.services.setup import Initialised, initialise
from identity_service.services.watch import WatchConfig, WatchHub
from identity_service.settings import Settings
from identity_service.telemetry import logs
from identity_service.telemetry.metrics import Metrics

_HEALTH_INTERVAL = 0.25
"""Seconds between two updates of the health status."""
_JOIN_TIMEOUT = 0.5
"""Seconds that a background thread may take to end when the process stops. All of them together are less than
`process.last_resort` allows."""
_KEYS_INTERVAL = timedelta(seconds=5)
"""Time between two checks whether a key has to be rotated or removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAdmin:
    """The parts with which the command line administers a store directly, without a server process."""

    settings: Settings
    store: CopyableStore
    administrator: Administration
    clock: Clock

    def initialise(self) -> Initialised:
        """Initialise the store; see `services/setup.py` for the result and the errors."""
        return initialise(
            self.store,
            open_vault(self.settings),
            self.administrator,
            self.clock,
            algorithm=self.settings.algorithm,
            service_audience=self.settings.service_audience,
            policy=key_policy(self.settings),
        )


@contextmanager
def open_store_admin(settings: Settings) -> Iterator[StoreAdmin]:
    """Open the store for administration, and close it at the end of the block.

    Raises StoreUnavailableError, ConfigurationError.
    """
    clock = SystemClock()
    store = open_store(settings, clock)
    hasher = open_hasher(settings)
    try:
        yield StoreAdmin(
            settings=settings,
            store=store,
            administrator=store_administration(store, hasher, clock, settings.issuer),
            clock=clock,
        )
    finally:
        store.close()
        end_processes()


class Service:
    """One server process, with all its parts. `start` makes it serve; `stop` drains and closes it."""

    @thread_limit.named()
    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        store: Store | None = None,
        share_port: bool = False,
        behind_asgi: bool = False,
    ) -> None:
        """Open the store and wire the parts; nothing is started yet.

        Args:
            settings: the settings of the process.
            clock: None = the system's; tests pass one that they move.
            store: None = the store that the settings name; it is closed by `stop`.
            share_port: whether other processes of this service listen on the same port.
            behind_asgi: whether an ASGI server listens and passes calls to `app`; then this process does not
                listen itself.

        Raises StoreUnavailableError, ConfigurationError.
        """
        clock = clock or SystemClock()
        self._metrics = Metrics()
        self._metrics_listen = settings.metrics_listen
        event_log = self._metrics.counting(logs.StructuredEventLog())
        vault = open_vault(settings)
        self._store = store = store or open_store(settings, clock, event_log)
        self._hasher = open_hasher(settings)
        self._issuer_keys = open_issuer_keys(settings, clock, event_log)
        self._replica = replica = Replica(
            store,
            clock,
            event_log,
            ReplicaConfig(
                max_staleness=settings.max_staleness,
                leeway=settings.leeway,
                retention=retention_for(settings.max_access_token_lifetime, settings.leeway),
                strong_limit=settings.strong_limit,
                marks=Marks(
                    lifetime=settings.max_access_token_lifetime,
                    session=settings.session_lifetime,
                    leeway=settings.leeway,
                ),
            ),
        )
        self._follower = Follower(
            store,
            replica,
            event_log,
            process=secrets.token_hex(8),
            heartbeat_interval=settings.heartbeat_interval,
        )
        self._metrics.watch(replica)
        use = UseCases(
            Parts(
                settings=settings,
                clock=clock,
                store=store,
                replica=replica,
                vault=vault,
                hasher=self._hasher,
                event_log=event_log,
                key_policy=key_policy(settings),
                issuer_keys=self._issuer_keys,
                attempts=open_counter(store, clock),
            )
        )
        self._keys = use.keys
        self._keeper = KeyKeeper(use.rotation.maintain, event_log, interval=_KEYS_INTERVAL)
        self._principals = open_principals(settings, use.administration, event_log)
        self._trail = use.trail
        self._metrics.gauge(
            "identity_audit_dropped",
            "Audit events that were dropped because the queue was full.",
            lambda: self._trail.dropped,
        )
        self._metrics.gauge(
            "identity_attempts_waiting",
            "Sign-ins that wait for others of the same account or address.",
            lambda: use.guard.waiting,
        )
        self._metrics.gauge(
            "identity_audit_folded",
            "Audit events that were counted instead of written one by one.",
            lambda: self._trail.folded,
        )
        gate = CallerGate(
            use.verifier,
            use.directory,
            use.trail,
            audience=settings.service_audience,
            require_caller_auth=settings.callers_prove_themselves,
        )
        keys_max_age = max_age(settings.publish_before)
        self._hub = hub = WatchHub(
            replica,
            use.keys,
            clock,
            WatchRenderer(keys_max_age),
            WatchConfig(queue=settings.watch_queue),
        )
        replica.follow(hub)
        replica.subscribe(hub.on_change)
        self._metrics.gauge("identity_watchers", "Open streams of Watch.", lambda: len(hub))
        self._limits = limits = Limits(limits_config(settings), event_log)
        self._metrics.show_limits(limits)
        senders = Senders(
            limits=limits, heartbeat=settings.watch_heartbeat, send_heartbeats=hub.send_heartbeats
        )
        pools = Pools(memory=settings.verify_threads, work=settings.work_threads)
        self.certificates = self._open_certificates(settings, event_log)
        """The server's TLS certificates; None = no TLS."""
        self.app: AsgiEngine | None = None
        """The ASGI application; None unless `behind_asgi`."""
        engine: Engine
        if behind_asgi:
            engine = self.app = AsgiEngine(pools.memory, limits, max_message_bytes=settings.max_message_bytes)
        else:
            config = _grpcio_config(settings, share_port=share_port)
            engine = GrpcioEngine(config, pools.memory, limits, event_log, self.certificates)
        self._server = Server(
            engine,
            pools,
            IdentityServicer(
                use.issuer,
                use.verifier,
                use.refresher,
                use.revoker,
                replica,
                cache_bytes=settings.cache_bytes // 4,
            ),
            TrustServicer(use.keys, replica, hub, senders, keys_max_age),
            AdminServicer(
                use.administration,
                use.sessions,
                use.keys,
                use.rotation,
                use.rewrap,
                AuditHandlers(store, senders),
            ),
            senders,
            gate,
            limits,
            reflection=settings.reflection,
        )
        self._drain_grace = settings.drain_grace
        self._stopping = threading.Event()
        self._health = threading.Thread(target=self._report_health, name="identity-health", daemon=True)

    @thread_limit.named()
    def start(self) -> int:
        """Listen, read the log to its end, and serve; return the port.

        Until it returns, every call is answered with UNAVAILABLE. Raises ConfigurationError,
        UnavailableError; then everything is closed again.
        """
        try:
            port = self._server.start()
            if self._metrics_listen:
                self._metrics.serve(self._metrics_listen)
            self._follower.start()
            self._trail.start()
            self._keys.signing()
            self._keys.current_refresh_key()
            self._keeper.start()
            if self._principals is not None:
                self._principals.start()
            self._server.set_serving(serving=True)
            self._health.start()
        except BaseException:
            self.stop()
            raise
        return port

    def stop(self, grace: timedelta | None = None) -> bool:
        """Report NOT_SERVING, drain the calls in progress, and close everything.

        Args:
            grace: how long calls in progress may take; None = the setting `drain_grace`.

        Returns whether all calls ended in time; the others were cancelled.
        """
        self._stopping.set()
        done = self._server.stop(self._drain_grace if grace is None else grace)
        if self._principals is not None:
            self._principals.close()
        self._keeper.close()
        self._follower.close()
        self._trail.close(_JOIN_TIMEOUT)
        self._store.close()
        self._follower.join(timeout=_JOIN_TIMEOUT)
        self._keeper.join(timeout=_JOIN_TIMEOUT)
        self._issuer_keys.close()
        self._metrics.close()
        return done

    def _open_certificates(self, settings: Settings, event_log: EventLog) -> Certificates | None:
        files = tls_files(settings)
        if files is None:
            return None
        certificates = Certificates(files, event_log)
        self._metrics.gauge(
            "identity_tls_expire_time",
            "When the certificate expires, in Unix seconds.",
            lambda: certificates.expire_time().timestamp(),
        )
        return certificates

    def _report_health(self) -> None:
        while not self._stopping.wait(_HEALTH_INTERVAL):
            self._server.set_serving(serving=self._replica.is_fresh())


def _grpcio_config(settings: Settings, *, share_port: bool) -> GrpcioConfig:
    return GrpcioConfig(
        share_port=share_port,
        listen=settings.listen,
        mtls_listen=settings.mtls_listen,
        max_message_bytes=settings.max_message_bytes,
        max_connections=settings.max_connections,
        max_streams_per_connection=settings.max_streams_per_connection,
        max_connection_age=settings.max_connection_age,
        drain_grace=settings.drain_grace,
    )
