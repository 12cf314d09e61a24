"""The composition root: the only module that knows every concrete class. Read this first.

settings → store → replica ← follower        (memory follows the log)   opening.py
             ↓        ↓
           use cases: issue, verify, refresh, revoke, administration    wiring.py
                      ↓
           servicers → methods → pipeline → engine                      here
           endpoints → HTTP application → listener                      http.py
"""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from identity_service.adapters.clock import SystemClock
from identity_service.adapters.password_hashing import end_processes
from identity_service.composition.opening import (
    check_issuer,
    forwarded_certificates,
    grpcio_config,
    key_policy,
    limits_config,
    open_hasher,
    open_issuer_keys,
    open_principals,
    open_store,
    open_vault,
    replica_config,
    tls_files,
)
from identity_service.composition.wiring import Parts, UseCases, store_administration
from identity_service.config.values import is_loopback
from identity_service.domain.ports import Clock
from identity_service.domain.store import Store
from identity_service.grpc_api.admin import AdminServicer
from identity_service.grpc_api.asgi.engine import AsgiEngine
from identity_service.grpc_api.audit import AuditHandlers
from identity_service.grpc_api.calls import CallerGate
from identity_service.grpc_api.engine import Engine
from identity_service.grpc_api.ext_authz.descriptors import read_requirements
from identity_service.grpc_api.ext_authz.servicer import ExtAuthzServicer
from identity_service.grpc_api.grpcio_engine import GrpcioEngine
from identity_service.grpc_api.identity import IdentityServicer
from identity_service.grpc_api.proofs import CallProofs
from identity_service.grpc_api.senders import Senders
from identity_service.grpc_api.server import Server
from identity_service.grpc_api.threads import Pools
from identity_service.grpc_api.trust import TrustServicer
from identity_service.grpc_api.trust_messages import WatchRenderer
from identity_service.grpc_api.two_engines import TwoEngines
from identity_service.process import thread_limit
from identity_service.process.background import BackgroundThread, Run, every
from identity_service.replication.follower import Follower
from identity_service.replication.replica import Replica
from identity_service.services.admin.administration import Administration
from identity_service.services.key_set import max_age
from identity_service.services.rotation import keep_keys
from identity_service.services.setup import Initialised, initialise
from identity_service.services.watch import WatchHub
from identity_service.settings import Settings
from identity_service.telemetry import logs
from identity_service.telemetry.counters import DurationsByLabels
from identity_service.telemetry.measured_store import MeasuredStore
from identity_service.telemetry.metrics import Metrics
from identity_service.telemetry.service_collectors import KeysCollector, LoadCollector, TokensCollector
from identity_service.transport.limits import Limits
from identity_service.transport.tls import Certificates

if TYPE_CHECKING:
    from identity_service.composition.http import AsgiApp
    from identity_service.http_api.app import HttpApp
    from identity_service.http_api.listener import HttpListener

_HEALTH_INTERVAL = 0.25
"""Seconds between two updates of the health status."""
_JOIN_TIMEOUT = 0.5
"""Seconds that `stop` waits for each thread that has to end before the store is closed, and then for the
others together. That is less than `process.last_resort` allows."""
_KEYS_INTERVAL = timedelta(seconds=5)
"""Time between two checks whether a key has to be rotated or removed."""
_CERTIFICATES_INTERVAL = 1.0
"""Seconds between two reads of the client authorities for certificates that a proxy forwards."""
_PRINCIPALS_INTERVAL = 1.0
"""Seconds between two reads of the principals file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAdmin:
    """The parts with which the command line administers a store directly, without a server process."""

    settings: Settings
    store: Store
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
            administrator=store_administration(store.records, hasher, clock, settings.issuer_names),
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
        samples: Connection | None = None,
        behind_asgi: bool = False,
        dev: bool = False,
    ) -> None:
        """Open the store and wire the parts; nothing is started yet.

        Args:
            settings: the settings of the process.
            clock: None = the system's; tests pass one that they move.
            store: None = the store that the settings name; it is closed by `stop`.
            share_port: whether other processes of this service listen on the same port.
            samples: the pipe on which the metrics are sent to the supervisor of this worker; None = there is
                no supervisor, or it does not want them.
            behind_asgi: whether an ASGI server listens and passes calls to `app`; then this process does not
                listen itself.
            dev: whether it runs with `--dev`: the issuer may then be an http URL of this machine.

        Raises StoreUnavailableError, ConfigurationError.
        """
        check_issuer(settings, dev=dev)
        clock = clock or SystemClock()
        self._settings = settings
        self._shares_port = share_port
        self._samples = samples
        self._metrics = Metrics()
        self._event_log = event_log = logs.StructuredEventLog(self._metrics.counted)
        vault = open_vault(settings)
        self._store = store = MeasuredStore(store or open_store(settings, clock, event_log))
        self._hasher = open_hasher(settings)
        self._issuer_keys = open_issuer_keys(settings, clock, event_log)
        self._replica = replica = Replica(store.log, clock, event_log, replica_config(settings))
        parts = Parts(
            settings=settings,
            clock=clock,
            store=store,
            replica=replica,
            vault=vault,
            hasher=self._hasher,
            event_log=event_log,
            key_policy=key_policy(settings),
            issuer_keys=self._issuer_keys,
        )
        self._use = use = UseCases(parts)
        self._wire_server(parts, use, share_port=share_port, behind_asgi=behind_asgi)
        self._show_metrics(parts, use, store.durations)
        process, interval = secrets.token_hex(8), settings.heartbeat_interval
        self._follower = Follower(store.log, replica, event_log, process=process, heartbeat_interval=interval)
        self._principals = open_principals(settings, use.administration, event_log)
        self._threads: list[BackgroundThread] = []
        self._closing = ExitStack()
        """The closing of the parts that are open, in the reverse order of their opening."""
        # The threads are awaited after the store is closed, which ends their waits for it.
        for close in (self._metrics.close, self._issuer_keys.close, self._join_threads, store.close):
            self._closing.callback(close)

    def _show_metrics(self, parts: Parts, use: UseCases, store: DurationsByLabels) -> None:
        """Register the metrics of the parts."""
        metrics, identity = self._metrics, self._identity
        metrics.watch(parts.replica)
        metrics.show_store(store)
        metrics.show_calls(self._server.durations)
        if self._http_app is not None:
            metrics.show_requests(self._http_app.durations)
        metrics.show(
            TokensCollector(identity.counts, use.verifier, use.trail),
            KeysCollector(use.keys, parts.clock),
            LoadCollector(self._pools, self._hasher),
        )
        metrics.show_limits(self._limits)
        metrics.show_queues(use.trail, use.guard, self._hub)
        if self.certificates is not None:
            metrics.show_expiry(self.certificates)

    def _wire_server(self, parts: Parts, use: UseCases, *, share_port: bool, behind_asgi: bool) -> None:
        """Create the server and the parts that only the server needs."""
        settings, store, replica, event_log = parts.settings, parts.store, parts.replica, parts.event_log
        files = tls_files(settings)
        self.certificates = None if files is None else Certificates(files, event_log)
        """The server's TLS certificates; None = no TLS."""
        forwarded = forwarded_certificates(settings, self.certificates)
        self._limits = limits = Limits(limits_config(settings), event_log, forwarded=forwarded)
        gate = CallerGate(
            use.verifier,
            use.directory,
            use.trail,
            limits.peers,
            use.proofs,
            CallProofs(settings.proof_authorities, use.proofs.next_nonce),
            audience=settings.service_audience,
            require_caller_auth=settings.callers_prove_themselves,
        )
        keys_max_age = max_age(settings.publish_before)
        renderer, queue = WatchRenderer(keys_max_age), settings.watch_queue
        self._hub = hub = WatchHub(replica, use.keys, parts.clock, renderer, queue=queue)
        replica.follow(hub)
        replica.subscribe(hub.on_change)
        self._http_app: HttpApp | None = None
        self._http: Sequence[HttpListener] = ()
        self.http_port = 0
        """The port of `http_listen`, if this process listens on it itself; known after `start`."""
        senders = Senders(
            limits=limits, heartbeat=settings.watch_heartbeat, send_heartbeats=hub.send_heartbeats
        )
        self._pools = pools = Pools(memory=settings.verify_threads, work=settings.work_threads)
        self.app: AsgiApp | None = None
        """The ASGI application; None unless `behind_asgi`."""
        engine: Engine
        self._web: AsgiEngine | None = None
        if behind_asgi:
            engine = self.app = AsgiEngine(limits, max_message_bytes=settings.max_message_bytes)
        else:
            listening = grpcio_config(settings, share_port=share_port)
            engine = GrpcioEngine(listening, limits, event_log, self.certificates)
            if settings.web_origins:
                size = settings.max_message_bytes
                self._web = AsgiEngine(limits, max_message_bytes=size, server_bounds_requests=False)
                engine = TwoEngines(engine, self._web)
        self._identity = IdentityServicer(
            use.issuer,
            use.verifier,
            use.refresher,
            use.revoker,
            replica,
            cache_bytes=settings.cache_bytes // 4,
        )
        self._server = Server(
            engine,
            pools,
            self._identity,
            TrustServicer(use.keys, replica, hub, senders, keys_max_age),
            AdminServicer(
                use.administration,
                use.sessions,
                use.keys,
                use.rotation,
                use.rewrap,
            ),
            AuditHandlers(store.audit, senders),
            ExtAuthzServicer(use.verifier, read_requirements(settings.ext_authz_descriptors)),
            senders,
            gate,
            limits,
            reflection=settings.reflection,
        )
        if settings.http_listen:
            self._wire_http(parts, use, pools.work, share_port=share_port)

    def _wire_http(self, parts: Parts, use: UseCases, pool: Executor, *, share_port: bool) -> None:
        """Create the application of the HTTP API, and its listeners unless an ASGI server listens."""
        # Imported here, since the libraries take megabytes that most processes do not need.
        from identity_service.composition.http import GrpcOrHttp, http_app, http_listeners

        settings, limits = parts.settings, self._limits
        # A worker knows its own metrics alone; the supervisor shows those of all.
        shows_metrics = is_loopback(settings.http_listen) and not settings.workers
        metrics = self._metrics.text if shows_metrics else None
        self._http_app = app = http_app(parts, use, pool, limits, self._server.is_serving, metrics)
        if self.app is not None:
            self.app = GrpcOrHttp(self.app, app, settings)
        else:
            self._http = http_listeners(
                app, self._web, settings, limits, self.certificates, share_port=share_port
            )

    @thread_limit.named()
    def start(self) -> int:
        """Listen, read the log to its end, and serve; return the port.

        Until it returns, every call is answered with UNAVAILABLE. Raises ConfigurationError,
        UnavailableError; then everything is closed again.
        """
        replica, follower, use = self._replica, self._follower, self._use
        try:
            port = self._server.start()
            if not self._shares_port:
                self._listen_for_http()
            if self._settings.metrics_listen:
                self._metrics.serve(self._settings.metrics_listen)
            if self._samples is not None:
                # First of all threads, so that it ends last, and sends what the others have counted.
                send = partial(self._metrics.send, self._samples)
                self._start_thread("identity-samples", send, ends_first=True)
            follower.load()
            self._start_thread("identity-audit", use.trail.run, use.trail.wake, ends_first=True)
            self._start_thread("identity-follow", follower.follow)
            self._start_thread("identity-heartbeat", follower.send_heartbeats)
            self._start_thread("identity-maintenance", follower.maintain, replica.maintenance.wake)
            use.keys.signing()
            use.keys.current_refresh_key()
            keeping = partial(keep_keys, use.rotation.maintain, self._event_log, _KEYS_INTERVAL)
            self._start_thread("identity-keys", keeping)
            if self._principals is not None:
                self._principals.apply()
                look = every(_PRINCIPALS_INTERVAL, self._principals.look)
                self._start_thread("identity-principals", look, ends_first=True)
            if (certificates := self.certificates) and self._settings.client_certificate_header:
                # The connections of a proxy may be old, and its requests do not read the files.
                read = every(_CERTIFICATES_INTERVAL, certificates.latest)
                self._start_thread("identity-authorities", read, ends_first=True)
            self._server.set_serving(serving=True)
            report = every(_HEALTH_INTERVAL, lambda: self._server.set_serving(serving=replica.is_fresh()))
            self._start_thread("identity-health", report)
            if self._shares_port:
                # Not before: other processes answer meanwhile, and HTTP clients do not repeat a request.
                self._listen_for_http()
        except BaseException:
            self.stop()
            raise
        return port

    def _listen_for_http(self) -> None:
        for listener in self._http:
            port = listener.start()
            self.http_port = self.http_port or port
            self._closing.callback(listener.close, _JOIN_TIMEOUT)

    def stop(self, grace: timedelta | None = None) -> bool:
        """Report NOT_SERVING, drain the calls in progress, and close everything.

        Args:
            grace: how long calls in progress may take; None = the setting `drain_grace`.

        Returns whether all calls ended in time; the others were cancelled. If closing a part fails, closes
        the others, and raises its error.
        """
        with self._closing:
            try:
                return self._drain(self._settings.drain_grace if grace is None else grace)
            finally:
                self._server.stop()

    def _drain(self, grace: timedelta) -> bool:
        """Let calls and HTTP requests in progress finish; return whether all did within `grace`."""
        end = time.monotonic() + grace.total_seconds()
        if self._http_app is not None:
            self._http_app.begin_drain()
        for listener in self._http:
            listener.stop_accepting()
        done = self._server.drain(grace)
        if self._http_app is not None:
            done = self._http_app.drain(max(0.0, end - time.monotonic())) and done
        return done

    def _start_thread(
        self, name: str, run: Run, wake: Callable[[], None] = lambda: None, *, ends_first: bool = False
    ) -> None:
        """Start a background thread. `stop` ends it, and if `ends_first` it then waits before going on."""
        thread = BackgroundThread(name, run, wake)
        thread.start()
        self._threads.append(thread)
        if ends_first:
            self._closing.callback(thread.join, _JOIN_TIMEOUT)
        self._closing.callback(thread.close)

    def _join_threads(self) -> None:
        """Wait until all threads have ended, for at most `_JOIN_TIMEOUT`."""
        end = time.monotonic() + _JOIN_TIMEOUT
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
