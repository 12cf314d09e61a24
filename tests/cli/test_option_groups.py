"""A group of options that makes the value of one parameter, such as a connection.

The value is closed after the command has ended.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from identity_service.cli.option_groups import OptionsOf, with_options

EVENTS: list[str] = []


@contextmanager
def opened(*, host: str, port: int = 1) -> Iterator[str]:
    yield f"{host}:{port}"
    EVENTS.append("closed")


def named(*, address: Annotated[str, OptionsOf(opened)], user: str = "ana") -> str:
    return f"{user}@{address}"


def command(
    *, first: str, login: Annotated[str, OptionsOf(named)], file: Path | None = None, last: bool = False
) -> None:
    EVENTS.append(f"{first} {login} {file} {last}")


def test_the_options_of_a_group_and_of_the_groups_in_it_stand_in_its_place() -> None:
    parameters = inspect.signature(with_options(command)).parameters

    assert [*parameters] == ["first", "host", "port", "user", "file", "last"]
    assert (parameters["port"].default, parameters["host"].annotation) == (1, str)


def test_a_group_is_closed_after_the_command_and_a_value_of_its_own_is_not_entered() -> None:
    EVENTS.clear()

    with_options(command)(first="a", host="h", port=2, user="bo", file=Path("f"), last=True)

    assert EVENTS == ["a bo@h:2 f True", "closed"]


def test_a_command_without_groups_stays_as_it_is() -> None:
    expanded = with_options(command)

    assert with_options(expanded) is expanded
