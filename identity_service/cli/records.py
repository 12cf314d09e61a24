"""Options and helpers of the commands about records: fields, files, passwords and confirmations."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import typer

from identity_service.cli.caller import ask
from identity_service.cli.output import Exit, fail, say
from identity_service.domain.visible import escape

T = TypeVar("T")

Enable = Annotated[bool, typer.Option("--enable", help="Enable it again.")]
DisplayName = Annotated[str | None, typer.Option("--name", help="Display name.")]
Etag = Annotated[str, typer.Option("--etag", help="Change the record only if its etag is still this one.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Show at most this many. Default: all.")]


def first(values: Iterable[T], limit: int | None) -> list[T]:
    """Return the first `limit` values (None = all) without requesting further pages."""
    return list(islice(values, limit))


@dataclass(frozen=True, slots=True)
class GivenFields:
    """The fields of a record that the options of a command set."""

    names: Sequence[str]
    values: Mapping[str, Any]
    """The values, without those of fields that are to be emptied."""

    @classmethod
    def of(cls, **fields: object) -> Self:
        """Take the fields that are not None; a duration of 0 empties its field."""
        names = [name for name, value in fields.items() if value is not None]
        return cls(names, {name: fields[name] for name in names if fields[name] != timedelta(0)})

    def require(self, option: str) -> None:
        """End the command with Exit.USAGE if no field is given; the message names `option` as an example."""
        if not self.names:
            fail(f"give at least one option that changes a field, such as {option}")


def texts(given: Sequence[str] | None) -> list[str] | None:
    """Return the values of a repeatable option without empty ones: a single '' gives an empty list."""
    return None if given is None else [text for text in given if text]


def seconds(given: int | None) -> timedelta | None:
    """Return a number of seconds as a duration; None as such."""
    return None if given is None else timedelta(seconds=given)


def read_text(path: Path) -> str:
    """Return the text of a file; end the command with Exit.USAGE if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{path}: is not a text file")


def read_new_password(*, from_stdin: bool) -> str:
    """Return a new password: the first line of standard input, or the answer to a prompt, asked twice."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return ask("New password", "give it with --password-stdin", twice=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation unless `yes` is set; end the command if the answer is no, or if there is none."""
    try:
        confirmed = yes or typer.confirm(escape(question), err=True)
    except typer.Abort:
        say("")
        fail("nothing was changed, since there was no answer; --yes answers in advance", Exit.FAILED)
    if not confirmed:
        fail("nothing was changed", Exit.FAILED)
