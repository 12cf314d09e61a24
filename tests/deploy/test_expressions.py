"""The expressions of the dashboard and the alerts use only metrics and labels that the service has."""

from collections.abc import Mapping
from typing import Final

import promql_parser
import pytest

from tests.deploy.expressions import Expression, alerts, of_alerts, of_dashboard
from tests.scrape import Scrape

OF_PROMETHEUS: Final = frozenset(("job", "instance"))
"""Labels that Prometheus adds to every sample."""
COMPLETE: Final = frozenset(
    ("event", "kind", "purpose", "state", "cache", "pool", "grpc_service", "grpc_method")
)
"""Labels that have samples for all their values as soon as the service has started."""
EVERY: Final = [*of_dashboard(), *of_alerts()]

each = pytest.mark.parametrize("expression", EVERY, ids=lambda expression: expression.owner)


def labels_of(everything: Scrape) -> Mapping[str, frozenset[str]]:
    """Return the labels of each metric, including those that Prometheus adds."""
    own = {name: labels | OF_PROMETHEUS for name, labels in everything.labels.items()}
    return {**own, "up": OF_PROMETHEUS}


def unknown(expression: Expression, everything: Scrape) -> set[str]:
    """Return the metrics, labels and label values in an expression that no sample has."""
    known, wrong = labels_of(everything), set[str]()
    for selector in expression.selectors:
        name = selector.name or ""
        if name not in known:
            wrong.add(name)
            continue
        for matcher in selector.matchers.matchers:
            if matcher.name not in known[name]:
                wrong.add(f"{name}: {matcher.name}")
            elif matcher.name in COMPLETE and matcher.op != promql_parser.MatchOp.NotEqual:
                values = matcher.value.split("|")  # the expressions have no other regular expressions
                wrong |= {v for v in values if not everything.has(name, **{matcher.name: v})}
    for kept, names in expression.groups:
        wrong |= {
            f"{name}: by {sorted(kept)}" for name in names if not known.get(name or "", set()) >= {*kept}
        }
    return wrong


@each
def test_every_metric_and_label_exists(expression: Expression, everything: Scrape) -> None:
    assert expression.selectors
    assert unknown(expression, everything) == set()


@pytest.mark.parametrize(
    "text",
    [
        "rate(identity_token_verified_total[5m])",
        'identity_fresh{wrong="x"}',
        'identity_revocations_total{kind="none"}',
        'identity_events_total{event=~"log_repaired|none"}',
        "sum by (worker) (rate(identity_tokens_verified_total[5m]))",
    ],
)
def test_a_mistake_in_a_metric_or_a_label_is_found(text: str, everything: Scrape) -> None:
    assert unknown(Expression("wrong", text), everything)


def test_an_alert_has_a_severity_a_summary_and_an_action() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert alert["annotations"].keys() == {"summary", "action"}


def test_every_metric_of_the_service_is_on_the_dashboard(everything: Scrape) -> None:
    """An operator who uses the dashboard would never see a metric that no panel shows."""
    shown = {selector.name for expression in of_dashboard() for selector in expression.selectors}
    ours = ("identity_", "grpc_", "http_")
    missing = {
        family.name
        for family in everything.families
        if family.name.startswith(ours)
        and family.samples
        and shown.isdisjoint(sample.name for sample in family.samples)
    }
    assert missing == set()
