"""The help of the commands: options that take a value show its type, and flags show none."""

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize("words", [(), ("token",), ("token", "verify")], ids=len)
def test_the_help_shows_no_type_for_a_flag(run: Run, words: tuple[str, ...]) -> None:
    shown = run(*words, "--help").stdout

    assert "--help" in shown
    assert "<bool>" not in shown


def test_the_help_shows_the_type_of_a_value(run: Run) -> None:
    assert "<str>" in run("token", "verify", "--help").stdout
