"""Metrics on their way from a worker process to its supervisor, which answers for all workers.

A message is JSON: for each metric its name, help text and type, and for each sample its name, labels and
value.
"""

import json
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

INTERVAL: Final = 1.0
"""Seconds between two messages of a worker; each takes it 1 ms of CPU."""


class Sample(NamedTuple):
    """One value of a metric."""

    name: str
    labels: dict[str, str]
    value: float


class Family(NamedTuple):
    """One metric with all its samples."""

    name: str
    help: str
    type: str
    samples: Sequence[Sample]


def encode(metrics: Iterable[Metric]) -> bytes:
    """Return the message with these metrics."""
    families = [
        (m.name, m.documentation, m.type, [(s.name, s.labels, s.value) for s in m.samples]) for m in metrics
    ]
    return json.dumps(families, separators=(",", ":")).encode()


def decode(message: bytes) -> Sequence[Family]:
    """Return the metrics of a message."""
    return [
        Family(name, what, type_, [Sample(*sample) for sample in samples])
        for name, what, type_, samples in json.loads(message)
    ]


def send_samples(registry: CollectorRegistry, pipe: Connection, stopping: threading.Event) -> None:
    """Send the metrics every second, and a last time when `stopping` is set.

    If the supervisor has ended, returns early.
    """
    with suppress(OSError), pipe:
        while True:
            is_last = stopping.wait(INTERVAL)
            pipe.send_bytes(encode(registry.collect()))
            if is_last:
                return
