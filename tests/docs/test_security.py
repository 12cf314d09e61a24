"""docs/security.md names tests for each measure against an attacker, and all of these tests exist."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.docs.recipes import DOCS

TESTS: Final = Path(__file__).parents[1]
_SECTION: Final = "## Attackers, and what stops them\n"
_STOPS: Final = ("what stops them", "what stops it")
_NAMES: Final = re.compile(r"`[\w/]+\.py::test_\w+`(, `[\w/]+\.py::test_\w+`)*")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table of the threat model."""

    attack: str
    stops: str | None
    """The measure against the attack; None in a table of measurements, which has no such column."""
    tests: str


def rows(page: str) -> Iterator[Row]:
    """Yield the rows of all tables of the section; the last column of each table is `test`."""
    section = page.partition(_SECTION)[2].partition("\n## ")[0]
    for table in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
        header, _, *lines = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
        assert header[-1] == "test", header
        for cells in lines:
            named = dict(zip(header, cells, strict=True))
            stops = [named[column] for column in _STOPS if column in named]
            yield Row(attack=cells[0], stops=stops[0] if stops else None, tests=named["test"])


def unnamed(page: str) -> list[str]:
    """Return the attacks whose row names no test though it names a measure, or names tests wrongly."""
    return [
        row.attack
        for row in rows(page)
        if not (row.tests == "-" if row.stops == "" else _NAMES.fullmatch(row.tests))
    ]


def named(page: str) -> list[str]:
    return [name for row in rows(page) for name in re.findall(r"`(.+?)`", row.tests)]


def is_there(name: str) -> bool:
    """Return whether a test exists, as a function of the file or as a method of one of its classes."""
    path, _, function = name.partition("::")
    file = TESTS / path
    if not file.is_file():
        return False
    tree = ast.parse(file.read_text(encoding="utf-8"))
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    return function in {node.name for body in bodies for node in body if isinstance(node, ast.FunctionDef)}


def security() -> str:
    return (DOCS / "security.md").read_text(encoding="utf-8")


def test_every_measure_names_its_tests() -> None:
    assert unnamed(security()) == []


def test_every_test_that_is_named_is_there() -> None:
    assert [name for name in named(security()) if not is_there(name)] == []


def test_all_tables_are_read() -> None:
    """The minimum numbers are about those of the page when this test was written."""
    found = list(rows(security()))

    assert len(found) >= 40
    assert len(named(security())) >= 80
    assert "listens to the traffic" in {row.attack for row in found}, "the first row of the first table"
    assert "60 wrong passwords at once" in {row.attack for row in found}, "the last one of the last"


def test_a_missing_test_is_found() -> None:
    """The functions that check the page must find the mistakes of this example page."""
    page = f"""
{_SECTION}
| they | what stops them | test |
|---|---|---|
| ask | a refusal | `docs/test_security.py::test_a_missing_test_is_found` |
| insist | another refusal | |
| bribe | | - |
| threaten | | `docs/test_security.py::test_nothing` |

| slip | what stops it | test |
|---|---|---|
| a gate left open | a guard | `docs/test_security.py::test_nothing`, `docs/test_nothing.py::test_nothing` |
| a guard asleep | a bell | - |

## Another section

| they | what stops them |
|---|---|
| ask here | nothing that a test knows |
"""

    assert unnamed(page) == ["insist", "threaten", "a guard asleep"]
    assert [name for name in named(page) if not is_there(name)] == [
        "docs/test_security.py::test_nothing",
        "docs/test_security.py::test_nothing",
        "docs/test_nothing.py::test_nothing",
    ]
