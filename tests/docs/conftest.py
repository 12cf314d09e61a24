"""The program `identity` that the recipes of the documentation run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.forked_commands import forked_commands
from tests.docs.recipes import INSTALLED
from tests.e2e.fork_server import is_possible


@pytest.fixture(scope="session")
def identity() -> Iterator[Path]:
    """Yield the path of a program `identity`: the installed one where no fork server is possible."""
    if not is_possible():
        yield INSTALLED
        return
    with forked_commands() as program:
        yield program
