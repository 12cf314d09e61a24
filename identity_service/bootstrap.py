"""The composition root: the class that opens, wires, starts and stops every part. Read this first.

settings → store → replica ← follower        (memory follows the log)   composition/opening.py
             ↓        ↓
           use cases: issue, verify, refresh, revoke, administration    composition/wiring.py
                      ↓
           gRPC API and HTTP API, with their ports                      composition/apis.py
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final

from identity_service.adapters.clock import SystemClock
from identity_service.composition.apis import Apis
from identity_service.composition.checks import check_issuer
from identity_service.composition.opening import (
    key_policy,
    open_hasher,
    open_issuer_keys,
    open_principals,
    open_store,
    open_vault,
    replica_config,
)
from identity_service.composition.tracing import open_tracing
from identity_service.composition.wiring import Parts, UseCases
from identity_service.domain.errors import IdentityError
from identity_service.domain.ports import Clock
from identity_service.domain.store import Store
from identity_service.process import thread_limit
from identity_service.process.addresses import port_of, with_port
from identity_service.process.background import BackgroundThread, Run, every
from identity_service.replication.follower import Follower
from identity_service.replication.replica import Replica
from identity_service.services.rotation import keep_keys
from identity_service.settings import Settings
from identity_service.telemetry import logs, service_collectors
from identity_service.telemetry.measured_store import MeasuredStore
from identity_service.telemetry.metrics import OPERATIONS, Metrics
from identity_service.transport.tls import Certificates

if TYPE_CHECKING:
    from identity_service.composition.http import AsgiApp

ENDED: Final = "ended"
"""The status in the last heartbeat of a process that was told to stop."""
_HEALTH_INTERVAL = 0.25
"""Seconds between two updates of the health status and of the sums in the metrics."""
_JOIN_TIMEOUT = 0.5
"""Seconds that `stop` waits for each thread that has to end before the store is closed, and then for the
others together. That is less than `process.last_resort` allows."""
_KEYS_INTERVAL = timedelta(seconds=5)
"""Time between two checks whether a key has to be rotated or removed."""
_CALLERS_INTERVAL = 1.0
"""Seconds between two checks whether the callers of open streams have been revoked."""
_CERTIFICATES_INTERVAL = 1.0
"""Seconds between two reads of the client authorities for certificates that a proxy forwards."""
_PRINCIPALS_INTERVAL = 1.0
"""Seconds between two reads of the principals file."""


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
        self._metrics = metrics = Metrics()
        self._event_log = event_log = logs.StructuredEventLog(metrics.counted)
        self._tracing = tracing = open_tracing(settings, event_log, clock)
        vault = tracing.vault(open_vault(settings))
        self._store = store = MeasuredStore(
            store or open_store(settings, clock, event_log), tracing.wrap_operation()
        )
        self._hasher = open_hasher(settings)
        self._issuer_keys = open_issuer_keys(settings, clock, event_log)
        self._replica = replica = Replica(store.log, clock, event_log, replica_config(settings))
        parts = Parts(
            settings=settings,
            clock=clock,
            store=store,
            replica=replica,
            vault=vault,
            hasher=tracing.hasher(self._hasher),
            event_log=event_log,
            key_policy=key_policy(settings),
            issuer_keys=self._issuer_keys,
        )
        self._use = use = UseCases(parts)
        self._apis = Apis(parts, use, metrics, tracing, share_port=share_port, behind_asgi=behind_asgi)
        metrics.watch(replica)
        metrics.show_durations(store.durations, OPERATIONS)
        metrics.show(partial(service_collectors.keys, use.keys, clock))
        metrics.show(partial(service_collectors.load, self._apis.pools, self._hasher))
        self._process, interval = secrets.token_hex(8), settings.heartbeat_interval
        self._follower = Follower(
            store.log, replica, event_log, process=self._process, heartbeat_interval=interval
        )
        self._principals = open_principals(settings, use.administration, event_log)
        self._threads: list[BackgroundThread] = []
        self._closing = ExitStack()
        """The closing of the parts that are open, in the reverse order of their opening."""
        # The threads are awaited after the store is closed, which ends their waits for it.
        close_keys = self._issuer_keys.close
        for close in (metrics.close, tracing.close, close_keys, self._join_threads, store.close):
            self._closing.callback(close)

    @property
    def app(self) -> "AsgiApp | None":
        """The ASGI application; None unless `behind_asgi`."""
        return self._apis.app

    @property
    def certificates(self) -> Certificates | None:
        """The server's TLS certificates; None = no TLS."""
        return self._apis.certificates

    @property
    def places(self) -> Mapping[str, str]:
        """host:port of each listener of this process, by its setting; known after `start`."""
        return self._apis.places

    @property
    def http_port(self) -> int:
        """The port of `http_listen`; 0 if this process does not listen on it itself."""
        return port_of(self.places.get("http_listen", ""))

    @thread_limit.named()
    def start(self) -> int:
        """Listen, read the log to its end, and serve; return the port.

        Until it returns, every call is answered with UNAVAILABLE. Raises ConfigurationError,
        UnavailableError; then everything is closed again.
        """
        replica, follower, use = self._replica, self._follower, self._use
        apis, server = self._apis, self._apis.server
        try:
            self._tracing.start()
            port = apis.listen()
            if not self._shares_port:
                apis.listen_for_http(self._closing, _JOIN_TIMEOUT)
            if place := self._settings.metrics_listen:
                apis.places["metrics_listen"] = with_port(place, self._metrics.serve(place))
            if self._samples is not None:
                # First of all threads, so that it ends last, and sends what the others have counted.
                send = partial(self._metrics.send, self._samples)
                self._start_thread("identity-samples", send, ends_first=True)
            follower.load()
            self._start_thread("identity-audit", use.trail.run, use.trail.wake, ends_first=True)
            self._start_thread("identity-follow", follower.follow)
            self._start_thread("identity-heartbeat", self._send_heartbeats, ends_first=True)
            self._start_thread("identity-maintenance", follower.maintain, replica.maintenance.wake)
            use.keys.signing()
            use.keys.current_refresh_key()
            keeping = partial(keep_keys, use.rotation.maintain, self._event_log, _KEYS_INTERVAL)
            self._start_thread("identity-keys", keeping)
            if self._principals is not None:
                self._principals.apply()
                look = every(_PRINCIPALS_INTERVAL, self._principals.look)
                self._start_thread("identity-principals", look, ends_first=True)
            if (certificates := apis.certificates) and self._settings.client_certificate_header:
                # A proxy may keep a connection for days, and only a handshake would read the files again.
                read = every(_CERTIFICATES_INTERVAL, certificates.latest)
                self._start_thread("identity-authorities", read, ends_first=True)
            server.set_serving(serving=True)
            self._start_thread("identity-health", every(_HEALTH_INTERVAL, self._report))
            self._start_thread("identity-callers", every(_CALLERS_INTERVAL, server.end_revoked))
            if self._shares_port:
                # Not before: other processes answer meanwhile, and HTTP clients do not repeat a request.
                apis.listen_for_http(self._closing, _JOIN_TIMEOUT)
        except BaseException:
            self.stop()
            raise
        return port

    def stop(self, grace: timedelta | None = None) -> bool:
        """Report NOT_SERVING, drain the calls in progress, and close everything.

        Args:
            grace: how long calls in progress may take; None = the setting `drain_grace`.

        Returns whether all calls ended in time; the others were cancelled. If closing a part fails, closes
        the others, and raises its error.
        """
        with self._closing:
            try:
                return self._apis.drain(self._settings.drain_grace if grace is None else grace)
            finally:
                self._apis.server.stop()

    def _send_heartbeats(self, stopping: threading.Event) -> None:
        """Send heartbeats until the service stops, and a last one, which says that this process has ended."""
        self._follower.send_heartbeats(stopping)
        with suppress(IdentityError):  # store unreachable: `doctor` will warn of missing heartbeats
            self._store.log.heartbeat(self._process, status=ENDED)

    def _report(self) -> None:
        """Update the health status, and sum up the counts that were added to the metrics."""
        self._apis.server.set_serving(serving=self._replica.is_fresh())
        self._metrics.sum_up()

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
