"""Turns counts that other packages keep into Prometheus' metrics, at each scrape."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
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


class Collected(Collector):
    """A collector that calls a function at each scrape."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        """Return the metrics in prometheus_client's form."""
        return self._collect()


def durations(found: DurationsByLabels, counter: Name, histogram: Name) -> Iterator[Metric]:
    """Yield a counter of events, whose last label is the outcome, and a histogram without this label."""
    counted = CounterMetricFamily(counter.name, counter.help, labels=found.names)
    timed = HistogramMetricFamily(histogram.name, histogram.help, labels=found.names[:-1])
    merged: dict[tuple[str, ...], Histogram] = {}
    for labels, each in found.read().items():
        counted.add_metric(labels, each.count)
        merged[labels[:-1]] = merged.get(labels[:-1], Histogram()) + each
    for labels, each in merged.items():
        if each.count:
            timed.add_metric(labels, _cumulated(each), each.sum)
    yield counted
    yield timed


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the upper bound of each bucket, and the number of events up to it."""
    return [*zip(_BUCKETS, itertools.accumulate(histogram.buckets), strict=True)]


def events(counters: Mapping[str, Counter]) -> Iterator[Metric]:
    """Yield the events of the log that are counted."""
    yield counter_by(
        "identity_events",
        "Events between this process and its store, by the name of the event in the log.",
        "event",
        {event: counter.value for event, counter in counters.items()},
    )


def limits(found: Limits) -> Iterator[Metric]:
    """Yield what clients hold open, and how often each limit took effect."""
    yield gauge_by(
        "identity_open",
        "Calls, streams and connections that are open now, by the setting that limits them.",
        "setting",
        {quota.name: quota.open for quota in found.quotas},
    )
    yield counter_by(
        "identity_limit_reached",
        "Calls, streams and connections that a limit refused or ended, by its setting.",
        "setting",
        found.refusals,
    )
    yield GaugeMetricFamily(
        "identity_refusals_waiting",
        "Calls beyond a bound of their address that wait for their turn to be refused.",
        found.turns.waiting,
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
