"""The program `identity` of readers who follow recipes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.forked_commands import forked_commands
from tests.docs.recipes import INSTALLED
from tests.e2e.fork_server import is_possible


@pytest.fixture(scope="session")
def identity() -> Iterator[Path]:
    """The path of a program `identity` whose commands the fork server runs, if this system can have one."""
    if not is_possible():
        yield INSTALLED
        return
    with forked_commands() as program:
        yield program
