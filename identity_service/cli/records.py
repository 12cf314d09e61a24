"""Options and helpers of the commands about records: reading files, passwords and confirmations."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from identity_client.values import moment
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


def texts(given: Sequence[str] | None) -> list[str]:
    """Return the values of a repeatable option without empty ones: a single '' gives an empty list."""
    return [text for text in given or () if text]


def time_of(message: Timestamp) -> datetime | None:
    """Return the time of a field, or None if the field is unset."""
    return moment(message) if message.seconds or message.nanos else None


def read_text(path: Path) -> str:
    """Return the text of a file; end the command with Exit.USAGE if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}", Exit.USAGE)
    except UnicodeDecodeError:
        fail(f"{path}: is not a text file", Exit.USAGE)


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
