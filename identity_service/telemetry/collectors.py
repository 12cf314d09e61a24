"""Collectors: they turn counts that other packages keep into Prometheus' metrics, at each scrape."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from identity_service.telemetry.counters import BOUNDS, Counter, DurationsByLabels, Histogram
from identity_service.transport.limits import Limits

_BUCKETS: Final = (*map(str, BOUNDS), "+Inf")


class Name(NamedTuple):
    """The name of a metric, and its help text."""

    name: str
    help: str


class DurationsCollector(Collector):
    """A collector of events with a duration: a counter, and a histogram without the last label."""

    def __init__(self, durations: DurationsByLabels, counter: Name, histogram: Name) -> None:
        """Create a collector of durations whose last label is the outcome."""
        self._durations = durations
        self._counter = counter
        self._histogram = histogram

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics in prometheus_client's form."""
        names = self._durations.names
        counted = CounterMetricFamily(self._counter.name, self._counter.help, labels=names)
        timed = HistogramMetricFamily(self._histogram.name, self._histogram.help, labels=names[:-1])
        merged: dict[tuple[str, ...], Histogram] = {}
        for labels, histogram in self._durations.read().items():
            counted.add_metric(labels, histogram.count)
            merged[labels[:-1]] = merged.get(labels[:-1], Histogram()) + histogram
        for labels, histogram in merged.items():
            if histogram.count:
                timed.add_metric(labels, _cumulated(histogram), histogram.sum)
        yield counted
        yield timed


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the upper bound of each bucket, and the number of events up to it."""
    return [*zip(_BUCKETS, itertools.accumulate(histogram.buckets), strict=True)]


class EventsCollector(Collector):
    """A collector of the events of the log that are counted."""

    def __init__(self, counters: Mapping[str, Counter]) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """Yield the metric in prometheus_client's form."""
        yield counter_by(
            "identity_events",
            "Events between this process and its store, by the name of the event in the log.",
            "event",
            {event: counter.value for event, counter in self._counters.items()},
        )


class LimitsCollector(Collector):
    """A collector that reads the limits at each scrape."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics in prometheus_client's form."""
        yield gauge_by(
            "identity_open",
            "Calls, streams and connections that are open now, by the setting that limits them.",
            "setting",
            {quota.name: quota.open for quota in self._limits.quotas},
        )
        yield counter_by(
            "identity_limit_reached",
            "Calls, streams and connections that a limit refused or ended, by its setting.",
            "setting",
            self._limits.refusals,
        )
        yield GaugeMetricFamily(
            "identity_refusals_waiting",
            "Calls beyond a bound of their address that wait for their turn to be refused.",
            self._limits.turns.waiting,
        )


def counter_by(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a counter with one label; `values` has a count for each value of the label."""
    found = CounterMetricFamily(name, what, labels=[label])
    for value, number in values.items():
        found.add_metric([value], number)
    return found


def gauge_by(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a gauge with one label; `values` has a number for each value of the label."""
    found = GaugeMetricFamily(name, what, labels=[label])
    for value, number in values.items():
        found.add_metric([value], number)
    return found
