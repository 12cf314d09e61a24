"""Parses the PromQL expressions of the dashboard and the alerts. The module asserts nothing."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import promql_parser
import yaml

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
_VARIABLES: Final = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}
"""The variables that Grafana replaces in an expression, each with a possible value."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A PromQL expression, with the name of the panel or alert that contains it."""

    owner: str
    text: str

    @property
    def selectors(self) -> list[promql_parser.VectorSelector]:
        """Return the selectors in the expression. Raises ValueError if it does not parse."""
        found: list[promql_parser.VectorSelector] = []

        def visit(node: Any) -> None:
            if isinstance(node, promql_parser.MatrixSelector):
                node = node.vector_selector
            if isinstance(node, promql_parser.VectorSelector):
                found.append(node)

        promql_parser.walk(promql_parser.parse(self.text), visit)
        return found

    @property
    def groups(self) -> list[tuple[list[str], list[str | None]]]:
        """Return for each aggregation the labels that it keeps, and the names of its metrics."""
        found: list[tuple[list[str], list[str | None]]] = []

        def visit(node: Any) -> None:
            if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
                inner = Expression(self.owner, node.expr.prettify())
                found.append((node.modifier.labels, [selector.name for selector in inner.selectors]))

        promql_parser.walk(promql_parser.parse(self.text), visit)
        return found


def of_dashboard() -> Iterator[Expression]:
    """Yield the expressions of every panel."""
    dashboard = json.loads((DEPLOY / "grafana/identity-service.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            text = target["expr"]
            for variable, value in _VARIABLES.items():
                text = text.replace(variable, value)
            yield Expression(panel["title"], text)


def alerts() -> list[dict[str, Any]]:
    """Return the alerts of the Prometheus rules file as they are written."""
    document = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def of_alerts() -> Iterator[Expression]:
    """Yield the expressions of every alert."""
    for rule in alerts():
        yield Expression(rule["alert"], rule["expr"])
