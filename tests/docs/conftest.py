"""The program `identity` for the tests that follow the recipes of the documentation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.forked_commands import forked_commands
from tests.docs.recipes import INSTALLED
from tests.e2e.fork_server import is_possible


@pytest.fixture(scope="session")
def identity() -> Iterator[Path]:
    """The path of the program `identity`. The fork server runs its commands if this system supports that."""
    if not is_possible():
        yield INSTALLED
        return
    with forked_commands() as program:
        yield program
