"""The metrics of all workers together, for the supervisor, which answers `/metrics` for them.

Counters and histograms are the sums over all workers, including those that have ended. Gauges, and the
metrics of processes, are shown for each worker, with the label `worker`.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from identity_service.telemetry.metrics_server import MetricsServer, start_server
from identity_service.telemetry.samples import Family, Sample, decode

_SUMMED: Final = ("counter", "histogram")
"""The types of metrics that add up."""
_OF_PROCESS: Final = ("process_", "python_")
"""The prefixes of metrics that describe a process, and add up to nothing."""

_Key = tuple[str, tuple[tuple[str, str], ...]]
"""The name and the labels of a sample."""


@dataclass(eq=False, slots=True)
class _Worker:
    """A worker process, and the metrics that it sent last."""

    label: str
    families: Sequence[Family] = ()
    """Its last message."""
    received: float = 0.0
    """The time of its last message, by `time.monotonic`; 0 = there was none."""


@dataclass(eq=False, slots=True)
class _Total:
    """The sum of one metric over all workers."""

    help: str
    type: str
    samples: dict[_Key, float] = field(default_factory=dict)

    def add(self, sample: Sample, **labels: str) -> None:
        """Add a sample to the one with the same name and labels."""
        key = (sample.name, tuple((sample.labels | labels).items()))
        self.samples[key] = self.samples.get(key, 0.0) + sample.value


class WorkerMetrics(Collector):
    """A collector of the metrics that the workers send. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: set[_Worker] = set()
        self._ended: dict[str, _Total] = {}
        """The counts of the workers that have ended."""
        self._ends = 0
        """The number of workers that have ended."""

    def serve(self, listen: str) -> MetricsServer:
        """Serve `/metrics` at host:port; return the server. Raises ConfigurationError."""
        registry = CollectorRegistry()
        registry.register(self)
        return start_server(listen, registry)

    def follow(self, pipe: Connection) -> None:
        """Receive the metrics of a new worker from this pipe until the worker ends.

        The label of the worker is the lowest number that no other worker has.
        """
        with self._lock:
            taken = {worker.label for worker in self._workers}
            label = next(label for label in map(str, range(len(taken) + 1)) if label not in taken)
            worker = _Worker(label)
            self._workers.add(worker)
        name = f"identity-worker-{label}"
        try:
            threading.Thread(target=self._receive, args=[worker, pipe], name=name, daemon=True).start()
        except RuntimeError:  # the system gives no thread: the worker serves, without its metrics
            pipe.close()
            self._end(worker)

    def _receive(self, worker: _Worker, pipe: Connection) -> None:
        try:
            with pipe:
                while True:
                    families = decode(pipe.recv_bytes())
                    with self._lock:
                        worker.families, worker.received = families, time.monotonic()
        except (EOFError, OSError):  # the worker has ended, perhaps within a message
            pass
        finally:
            self._end(worker)

    def _end(self, worker: _Worker) -> None:
        with self._lock:
            self._workers.discard(worker)
            self._ends += 1
            _add_counters(self._ended, worker.families)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics in prometheus_client's form."""
        with self._lock:
            totals = {
                name: _Total(total.help, total.type, total.samples.copy())
                for name, total in self._ended.items()
            }
            workers, ends = sorted(self._workers, key=lambda worker: int(worker.label)), self._ends
        ages = GaugeMetricFamily(
            "identity_worker_report_age_seconds",
            "Seconds since the last metrics of a worker arrived.",
            labels=["worker"],
        )
        for worker in workers:
            families = worker.families
            _add_counters(totals, families)
            _add_gauges(totals, families, worker.label)
            if families:
                ages.add_metric([worker.label], time.monotonic() - worker.received)
        for name, total in totals.items():
            metric = Metric(name, total.help, total.type)
            for (sample, labels), value in total.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric
        yield ages
        yield GaugeMetricFamily("identity_workers", "Worker processes that run now.", len(workers))
        yield CounterMetricFamily("identity_workers_ended", "Worker processes that have ended.", ends)


def _is_summed(family: Family) -> bool:
    return family.type in _SUMMED and not family.name.startswith(_OF_PROCESS)


def _add_counters(totals: dict[str, _Total], families: Sequence[Family]) -> None:
    for family in families:
        if _is_summed(family):
            total = totals.setdefault(family.name, _Total(family.help, family.type))
            for sample in family.samples:
                total.add(sample)


def _add_gauges(totals: dict[str, _Total], families: Sequence[Family], worker: str) -> None:
    for family in families:
        if not _is_summed(family):
            total = totals.setdefault(family.name, _Total(family.help, family.type))
            for sample in family.samples:
                total.add(sample, worker=worker)
