"""Prometheus metrics of this process, read at each scrape.

The module defines the names of the metrics; `metrics_server.py` serves them. Calls are counted by
`counters.py`; all other metrics add no work to calls.
"""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing.connection import Connection
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.gc_collector import GCCollector

from identity_service.replication.replica import Replica
from identity_service.services.attempts import AttemptGuard
from identity_service.services.audit import StoredTrail
from identity_service.services.watch import WatchHub
from identity_service.telemetry.collectors import Collected, Name, durations, events, limits
from identity_service.telemetry.counters import Counter, DurationsByLabels
from identity_service.telemetry.metrics_server import start_server
from identity_service.telemetry.samples import send_samples
from identity_service.transport.limits import Limits
from identity_service.transport.tls import Certificates

_COUNTED: Final = (
    "epoch_renewed",
    "follower_bug",
    "grpcio_fallback",
    "issuer_keys_failed",
    "keys_not_maintained",
    "log_incomplete",
    "log_rebuilt",
    "log_repaired",
    "log_replaced",
    "log_trimmed",
    "own_writes_lost",
    "principals_applied",
    "principals_refused",
    "resend_dropped",
    "revision_unrecognised",
    "revocations_sent_again",
    "store_found",
    "store_lost",
    "store_mended",
    "store_moved",
    "store_refused",
    "store_reopened",
    "tls_refused",
    "tls_reloaded",
)
"""Events of the event log that are counted, so that operators can alert on them."""

CALLS: Final = (
    Name("grpc_server_handled", "Calls that ended in their handler, by status code."),
    Name("grpc_server_handling_seconds", "Seconds from the start of the handler to the end."),
)
"""The names of the calls of the gRPC API, which go-grpc-prometheus uses, too."""
REQUESTS: Final = (
    Name("http_requests", "HTTP requests that ended, by route and status."),
    Name("http_request_duration_seconds", "Seconds from the headers of a request to its end."),
)
OPERATIONS: Final = (
    Name("identity_store_operations", "Operations of the store, by outcome."),
    Name("identity_store_operation_seconds", "Seconds that an operation of the store took."),
)


class Metrics:
    """A registry of metrics, and its HTTP server if `serve` is called."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        for of_process in (ProcessCollector, PlatformCollector, GCCollector):
            of_process(registry=self._registry)
        counters = {event: Counter() for event in _COUNTED}
        self.show(partial(events, counters))
        self.counted = {event: counter.increment for event, counter in counters.items()}
        """The function that counts an event, by the name of the event."""
        self._durations: list[DurationsByLabels] = []
        self._close: Callable[[], None] = lambda: None

    def watch(self, replica: Replica) -> None:
        """Register the metrics of this replica."""
        self.gauge(
            "identity_staleness_seconds",
            "Seconds since this process sent the last heartbeat that the store confirmed.",
            lambda: replica.staleness,
        )
        self.gauge(
            "identity_fresh",
            "1 if this process is fresh enough to answer from memory, else 0.",
            replica.is_fresh,
        )
        self.gauge(
            "identity_store_unsafe",
            "1 while the configuration or the files of the store are unsafe, else 0.",
            lambda: replica.store_is_unsafe,
        )
        self.gauge(
            "identity_log_position",
            "Position in the change log up to which this process has applied every entry.",
            lambda: replica.revision.position,
        )
        self.gauge(
            "identity_denials",
            "Entries of the denylist: token and session ids.",
            lambda: len(replica.revocations.denylist),
        )
        self.gauge(
            "identity_unconfirmed_revocations",
            "Unconfirmed revocations, which are enforced here and resent to the store.",
            lambda: replica.maintenance.unconfirmed,
        )

    def show_durations(self, found: DurationsByLabels, names: tuple[Name, Name]) -> None:
        """Register events with a duration, under the names of a counter and a histogram."""
        self._durations.append(found)
        self.show(partial(durations, found, *names))

    def sum_up(self) -> None:
        """Sort the durations that were added into their buckets, which bounds the memory that they take."""
        for each in self._durations:
            each.read()

    def show(self, collect: Callable[[], Iterable[Metric]]) -> None:
        """Register a function that returns metrics; it is called at each scrape."""
        self._registry.register(Collected(collect))

    def show_limits(self, found: Limits) -> None:
        """Register the calls and connections that clients hold open, and how often each limit took effect."""
        self.show(partial(limits, found))

    def show_queues(self, trail: StoredTrail, guard: AttemptGuard, hub: WatchHub) -> None:
        """Register the dropped and folded audit events, the sign-ins that wait, and the open watchers."""
        self.gauge(
            "identity_audit_dropped",
            "Audit events that were dropped because the queue was full.",
            lambda: trail.dropped,
        )
        self.gauge(
            "identity_audit_folded",
            "Audit events that were counted instead of written one by one.",
            lambda: trail.folded,
        )
        self.gauge(
            "identity_attempts_waiting",
            "Sign-ins that wait for others of the same username or address.",
            lambda: guard.waiting,
        )
        self.gauge("identity_watchers", "Open streams of Watch.", lambda: len(hub))

    def show_expiry(self, certificates: Certificates) -> None:
        """Register the time at which the TLS certificate expires."""
        self.gauge(
            "identity_tls_expire_time",
            "When the certificate expires, in Unix seconds.",
            lambda: certificates.expire_time().timestamp(),
        )

    def gauge(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Register a gauge.

        Args:
            name: the name of the metric.
            what: its help text.
            read: returns the value; called at each scrape.
        """
        Gauge(name, what, registry=self._registry).set_function(read)

    def serve(self, listen: str) -> int:
        """Serve `/metrics` over HTTP at host:port; return the port.

        Raises ConfigurationError if the address cannot be bound.
        """
        server = start_server(listen, self._registry)
        self._close = server.close
        return server.port

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def send(self, pipe: Connection, stopping: threading.Event) -> None:
        """Send the metrics to the supervisor of this worker every second, and when `stopping` is set."""
        send_samples(self._registry, pipe, stopping)

    def close(self) -> None:
        """Stop the HTTP server, if it runs."""
        self._close()
