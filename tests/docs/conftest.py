"""The program `identity` of readers who follow recipes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.forked_commands import forked_commands


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    """The folder of a program `identity` whose commands the fork server runs."""
    with forked_commands() as folder:
        yield folder
