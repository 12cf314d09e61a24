"""The Grafana dashboard: it has what Grafana's schema requires, and its panels do not overlap.

The expressions of the panels are tested in `test_expressions.py`.
"""

import json
from collections import Counter
from itertools import pairwise
from typing import Any, Final

import pytest

from tests.deploy.expressions import DEPLOY

DASHBOARD: Final[dict[str, Any]] = json.loads((DEPLOY / "grafana/identity-service.json").read_text())
PANELS: Final[list[dict[str, Any]]] = DASHBOARD["panels"]
DRAWN: Final = [panel for panel in PANELS if panel["type"] != "row"]
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
WIDTH: Final = 24
"""The width of a Grafana dashboard in columns."""

each = pytest.mark.parametrize("panel", DRAWN, ids=lambda panel: panel["title"])


def test_it_has_the_members_that_grafana_requires() -> None:
    assert {"annotations", "panels", "schemaVersion", "templating", "time", "title", "uid"} <= set(DASHBOARD)
    assert DASHBOARD["annotations"] == {"list": []}


def test_the_queries_of_its_variables_are_texts() -> None:
    """The meaning of a query that is an object depends on the version of the data source."""
    variables = DASHBOARD["templating"]["list"]

    assert [variable["name"] for variable in variables] == ["datasource", "job", "instance"]
    assert all(isinstance(variable["query"], str) for variable in variables)


def test_no_two_panels_share_an_id_or_a_place() -> None:
    places: Counter[tuple[int, int]] = Counter()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        places.update((column, row) for column in columns for row in rows)

    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert set(places.values()) == {1}
    tops = [panel["gridPos"]["y"] for panel in PANELS]
    assert all(above <= below for above, below in pairwise(tops))


@each
def test_a_panel_has_a_unit_a_legend_and_the_source_that_the_reader_chooses(panel: dict[str, Any]) -> None:
    assert panel["datasource"] == SOURCE
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["options"]["legend"]["showLegend"] is True
    assert panel["options"]["legend"]["calcs"] == []


@each
def test_the_targets_of_a_panel_have_ids_of_their_own_and_names_for_their_lines(
    panel: dict[str, Any],
) -> None:
    targets = panel["targets"]

    assert len({target["refId"] for target in targets}) == len(targets)
    assert all(target["datasource"] == SOURCE and target["legendFormat"] for target in targets)
