"""The metrics of workers as their supervisor adds them up; here each worker is a pipe."""

import multiprocessing
import struct
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from identity_service.serving.worker_metrics import WorkerMetrics
from identity_service.telemetry.samples import encode, send_samples
from tests.patience import PATIENCE, until
from tests.scrape import Scrape


def message(count: float, *, fresh: float = 1) -> bytes:
    """Return the message of a worker whose counter has this value."""
    counter = CounterMetricFamily("calls", "", labels=["method"])
    counter.add_metric(["a"], count)
    cpu = CounterMetricFamily("process_cpu_seconds", "", count)
    histogram = HistogramMetricFamily("seconds", "", buckets=[("1.0", count), ("+Inf", count)], sum_value=0.5)
    return encode([counter, cpu, histogram, GaugeMetricFamily("fresh", "", fresh)])


class Site:
    def __init__(self) -> None:
        self.metrics = WorkerMetrics()
        self.pipes: list[Connection] = []

    @property
    def found(self) -> Scrape:
        return Scrape([*self.metrics.collect()])

    def start(self) -> Connection:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        self.metrics.follow(receiver)
        self.pipes.append(sender)
        return sender

    def await_value(self, wanted: float, name: str, **labels: str) -> None:
        until(lambda: self.found.value(name, **labels) == wanted)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    for pipe in site.pipes:
        pipe.close()


def test_counters_and_histograms_of_workers_add_up(site: Site) -> None:
    first, second = site.start(), site.start()
    first.send_bytes(message(2))
    first.send_bytes(message(3))  # replaces the message before
    second.send_bytes(message(4))

    site.await_value(7, "calls_total", method="a")
    assert site.found.value("seconds_bucket", le="1.0") == 7
    assert site.found.value("seconds_sum") == 1.0
    assert site.found.labels["calls_total"] == {"method"}


def test_gauges_and_metrics_of_processes_are_those_of_each_worker(site: Site) -> None:
    first, second = site.start(), site.start()
    first.send_bytes(message(2, fresh=0))
    second.send_bytes(message(4))

    site.await_value(6, "calls_total")
    found = site.found
    assert [found.value("fresh", worker=number) for number in "01"] == [0, 1]
    assert [found.value("process_cpu_seconds_total", worker=number) for number in "01"] == [2, 4]
    assert found.has("identity_worker_report_age_seconds", worker="1")
    assert found.value("identity_workers") == 2


def test_the_counts_of_a_worker_that_has_ended_stay_and_its_gauges_go(site: Site) -> None:
    first, second = site.start(), site.start()
    first.send_bytes(message(2))
    second.send_bytes(message(4))
    site.await_value(6, "calls_total")

    first.close()
    site.await_value(1, "identity_workers_ended_total")
    assert site.found.value("calls_total") == 6
    assert not site.found.has("fresh", worker="0")

    site.start().send_bytes(message(1))
    site.await_value(7, "calls_total")
    assert site.found.has("fresh", worker="0")  # the number is free again


def test_a_worker_that_dies_within_a_message_keeps_the_counts_of_the_one_before(site: Site) -> None:
    pipe = site.start()
    pipe.send_bytes(message(2))
    site.await_value(2, "calls_total")
    with open(pipe.fileno(), "wb", closefd=False) as half:  # it is not a path
        half.write(struct.pack("!i", 1000) + b"[")
    pipe.close()

    site.await_value(1, "identity_workers_ended_total")
    assert site.found.value("calls_total") == 2


def test_a_worker_that_has_sent_nothing_yet_shows_no_values(site: Site) -> None:
    site.start()
    assert site.found.value("identity_workers") == 1
    assert not site.found.has("identity_worker_report_age_seconds")


def test_infinite_values_arrive(site: Site) -> None:
    site.start().send_bytes(message(1, fresh=float("inf")))
    site.await_value(float("inf"), "fresh")


def test_a_worker_sends_its_last_values_when_it_stops_and_ends_with_its_supervisor() -> None:
    registry, stopping = CollectorRegistry(), threading.Event()
    gauge = Gauge("fresh", "", registry=registry)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    gauge.set(7)
    stopping.set()
    send_samples(registry, sender, stopping)
    assert b"7.0" in receiver.recv_bytes()
    with pytest.raises(EOFError):
        receiver.recv_bytes()

    receiver, sender = multiprocessing.Pipe(duplex=False)
    receiver.close()
    ends = threading.Thread(target=send_samples, args=[registry, sender, threading.Event()])
    ends.start()
    ends.join(PATIENCE)
    assert not ends.is_alive()
