"""Collectors: they turn counts that other packages keep into Prometheus' metrics, at each scrape."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from identity_service.telemetry.counters import BOUNDS, DurationsByLabels, Histogram
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


class ValuesCollector(Collector):
    """A collector of one metric with one label, whose values a function returns."""

    def __init__(
        self,
        family: type[CounterMetricFamily] | type[GaugeMetricFamily],
        name: Name,
        label: str,
        read: Callable[[], Mapping[str, float]],
    ) -> None:
        self._family = family
        self._name = name
        self._label = label
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yield the metric in prometheus_client's form."""
        found = self._family(self._name.name, self._name.help, labels=[self._label])
        for value, number in self._read().items():
            found.add_metric([value], number)
        yield found


class LimitsCollector(Collector):
    """A collector that reads the limits at each scrape."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics in prometheus_client's form."""
        opened = GaugeMetricFamily(
            "identity_open",
            "Calls, streams and connections that are open now, by the setting that limits them.",
            labels=["setting"],
        )
        for quota in self._limits.quotas:
            opened.add_metric([quota.name], quota.open)
        yield opened
        reached = CounterMetricFamily(
            "identity_limit_reached",
            "Calls, streams and connections that a limit refused or ended, by its setting.",
            labels=["setting"],
        )
        for setting, times in self._limits.refusals.items():
            reached.add_metric([setting], times)
        yield reached
        yield GaugeMetricFamily(
            "identity_refusals_waiting",
            "Calls beyond a bound of their address that wait for their turn to be refused.",
            self._limits.turns.waiting,
        )
