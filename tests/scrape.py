"""Reads `/metrics` as Prometheus does: parses every line into name, labels and value."""

import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.patience import PATIENCE


@dataclass(frozen=True, slots=True)
class Scrape:
    """All metrics of one response of `/metrics`."""

    families: Sequence[Metric]

    @property
    def samples(self) -> Sequence[Sample]:
        """Return the samples of all metric families."""
        return [sample for family in self.families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with this name and these labels; 0 if there is none."""
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())

    def has(self, name: str, **labels: str) -> bool:
        """Return whether there is a sample of this name with these labels."""
        return any(s.name == name and labels.items() <= s.labels.items() for s in self.samples)

    @property
    def labels(self) -> Mapping[str, frozenset[str]]:
        """Return, for each metric name, the label names of its samples."""
        found: dict[str, frozenset[str]] = {}
        for sample in self.samples:
            found[sample.name] = found.get(sample.name, frozenset()) | sample.labels.keys()
        return found


def scrape(address: str) -> Scrape:
    """Return the present metrics of the service whose HTTP server has this host:port."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE) as answer:
        return Scrape([*text_string_to_metric_families(answer.read().decode())])
