"""Wires the gRPC and the HTTP API on the use cases: servicers and endpoints, the engine, the listeners.

servicers → methods → pipeline → engine
endpoints → HTTP application → listeners     http.py
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from identity_service.composition.engines import open_asgi, open_grpcio
from identity_service.composition.listeners import tls_files
from identity_service.composition.opening import forwarded_certificates, limits_config
from identity_service.composition.wiring import Parts, UseCases
from identity_service.domain.urls import is_loopback
from identity_service.grpc_api.admin import AdminServicer
from identity_service.grpc_api.audit import AuditHandlers
from identity_service.grpc_api.engine import Engine
from identity_service.grpc_api.ext_authz.descriptors import read_requirements
from identity_service.grpc_api.ext_authz.servicer import ExtAuthzServicer
from identity_service.grpc_api.gate import CallerGate
from identity_service.grpc_api.issue import IssueServicer
from identity_service.grpc_api.proofs import CallProofs
from identity_service.grpc_api.revoke import RevokeServicer
from identity_service.grpc_api.senders import Senders
from identity_service.grpc_api.server import Server
from identity_service.grpc_api.threads import Pools
from identity_service.grpc_api.trust import TrustServicer
from identity_service.grpc_api.trust_messages import WatchRenderer
from identity_service.grpc_api.two_engines import TwoEngines
from identity_service.grpc_api.verify import VerifyServicer
from identity_service.services.keyring import max_age
from identity_service.services.watch import WatchHub
from identity_service.telemetry import service_collectors
from identity_service.telemetry.metrics import CALLS, REQUESTS, Metrics
from identity_service.telemetry.tracing.parts import Tracing
from identity_service.transport.limits import Limits
from identity_service.transport.tls import Certificates

if TYPE_CHECKING:
    from identity_service.composition.http import AsgiApp
    from identity_service.grpc_api.asgi.engine import AsgiEngine
    from identity_service.grpc_api.grpcio_engine import GrpcioEngine
    from identity_service.http_api.app import HttpApp
    from identity_service.http_api.listener import HttpListener


class Apis:
    """The APIs of a process, with their ports, threads, limits and certificates."""

    def __init__(
        self,
        parts: Parts,
        use: UseCases,
        metrics: Metrics,
        tracing: Tracing,
        *,
        share_port: bool,
        behind_asgi: bool,
    ) -> None:
        """Wire the APIs; they do not listen yet.

        Args:
            parts: the parts of the process.
            use: the use cases, which all APIs share.
            metrics: shows the APIs' metrics.
            tracing: traces their calls and requests, if it is on.
            share_port: see `bootstrap.Service`, like `behind_asgi`.
            behind_asgi: whether an ASGI server passes calls to `app`.

        Raises ConfigurationError.
        """
        settings, event_log = parts.settings, parts.event_log
        self._settings = settings
        files = tls_files(settings)
        self.certificates = None if files is None else Certificates(files, event_log)
        """The server's TLS certificates; None = no TLS."""
        forwarded = forwarded_certificates(settings, self.certificates)
        self.limits = Limits(limits_config(settings), event_log, forwarded=forwarded)
        self.places: dict[str, str] = {}
        """host:port of each listener of this process, by its setting; known once it listens."""
        self.app: AsgiApp | None = None
        """The ASGI application; None unless `behind_asgi`."""
        self._web: AsgiEngine | None = None
        self._grpcio: GrpcioEngine | None = None
        engine: Engine
        if behind_asgi:
            engine = self.app = open_asgi(settings, self.limits)
        else:
            engine = self._grpcio = open_grpcio(
                settings, self.limits, event_log, self.certificates, share_port=share_port
            )
            if settings.web_origins:
                self._web = open_asgi(settings, self.limits, server_bounds_requests=False)
                engine = TwoEngines(engine, self._web)
        self.server = self._server(tracing.engine(engine), parts, use, metrics)
        self._http_app: HttpApp | None = None
        self._http: Sequence[HttpListener] = ()
        if settings.http_listen:
            self._wire_http(parts, use, metrics, tracing, share_port=share_port)
        metrics.show_limits(self.limits)
        if self.certificates is not None:
            metrics.show_expiry(self.certificates)

    def _server(self, engine: Engine, parts: Parts, use: UseCases, metrics: Metrics) -> Server:
        """Return the gRPC server on this engine."""
        settings, replica, limits = parts.settings, parts.replica, self.limits
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
        self.hub = hub = WatchHub(replica, use.keys, parts.clock, renderer, queue=queue)
        replica.follow(hub)
        replica.subscribe(hub.on_records_changed)
        senders = Senders(
            limits=limits,
            max_age=settings.max_connection_age,
            heartbeat=settings.watch_heartbeat,
            send_heartbeats=hub.send_heartbeats,
        )
        self.pools = pools = Pools(memory=settings.verify_threads, work=settings.work_threads)
        verify = VerifyServicer(use.verifier, replica, cache_bytes=settings.cache_bytes // 4)
        server = Server(
            engine,
            pools,
            IssueServicer(use.issuer, use.repeated_issue, use.refresher),
            verify,
            RevokeServicer(use.revoker),
            TrustServicer(use.keys, replica, hub, senders, keys_max_age),
            AdminServicer(use.administration, use.sessions, use.keys, use.rotation, use.rewrap),
            AuditHandlers(parts.store.audit, senders),
            ExtAuthzServicer(use.verifier, read_requirements(settings.ext_authz_descriptors)),
            senders,
            gate,
            limits,
            reflection=settings.reflection,
        )
        metrics.show_durations(server.durations, CALLS)
        metrics.show(partial(service_collectors.tokens, verify.counts, use.verifier, use.trail))
        metrics.show_queues(use.trail, use.guard, hub)
        return server

    def _wire_http(
        self, parts: Parts, use: UseCases, metrics: Metrics, tracing: Tracing, *, share_port: bool
    ) -> None:
        """Create the application of the HTTP API, and its listeners unless an ASGI server listens."""
        # Imported here, since the libraries take megabytes that most processes do not need.
        from identity_service.composition.http import GrpcOrHttp, http_app, http_listeners

        settings, limits = parts.settings, self.limits
        # A worker knows its own metrics alone; the supervisor shows those of all.
        shows_metrics = is_loopback(settings.http_listen) and not settings.workers
        text = metrics.text if shows_metrics else None
        self._http_app = app = http_app(parts, use, self.pools.work, limits, self.server.is_serving, text)
        metrics.show_durations(app.durations, REQUESTS)
        traced = tracing.http(app, app.paths)
        if self.app is not None:
            self.app = GrpcOrHttp(self.app, traced, settings)
        else:
            self._http = http_listeners(
                traced, self._web, settings, limits, self.certificates, share_port=share_port
            )

    def listen(self) -> int:
        """Start the gRPC server, which answers UNAVAILABLE until it serves; return its port.

        Raises ConfigurationError.
        """
        port = self.server.start()
        if self._grpcio is not None:
            self.places |= self._grpcio.places
        return port

    def listen_for_http(self, closing: ExitStack, timeout: float) -> None:
        """Start the HTTP listeners; `closing` then closes each of them within `timeout` seconds.

        Raises ConfigurationError.
        """
        for listener in self._http:
            self.places[listener.setting] = listener.start()
            closing.callback(listener.close, timeout)

    def drain(self, grace: timedelta) -> bool:
        """Let calls and HTTP requests in progress finish; return whether all did within `grace`."""
        end = time.monotonic() + grace.total_seconds()
        if self._http_app is not None:
            self._http_app.begin_drain()
        for listener in self._http:
            listener.stop_accepting()
        done = self.server.drain(grace)
        if self._http_app is not None:
            done = self._http_app.drain(max(0.0, end - time.monotonic())) and done
        return done
