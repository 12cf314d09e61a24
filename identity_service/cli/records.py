"""What the commands about records share: how values are shown, read from files, and asked for."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from identity_client.values import moment
from identity_service.cli.output import Exit, fail
from identity_service.domain.visible import escape

T = TypeVar("T")

Enable = Annotated[bool, typer.Option("--enable", help="Let it in again.")]
DisplayName = Annotated[str | None, typer.Option("--name", help="A name for people.")]
Etag = Annotated[str, typer.Option("--etag", help="As shown: only if nobody has changed it since.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Show at most this many. Default: all.")]


def first(values: Iterable[T], limit: int | None) -> list[T]:
    """As many as are wanted; the pages behind them are not asked for."""
    return list(islice(values, limit))


def texts(given: Sequence[str] | None) -> list[str]:
    """A list as options say it; one empty text empties it."""
    return [text for text in given or () if text]


def time_of(message: Timestamp) -> datetime | None:
    """A time that may be unset."""
    return moment(message) if message.seconds or message.nanos else None


def read_text(path: Path) -> str:
    """What a file of an option holds."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path}: cannot be read as text ({type(error).__name__})", Exit.USAGE)


def read_new_password(*, from_stdin: bool) -> str:
    """A password to set: from standard input, or asked for twice."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    answer: str = typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    return answer


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless that was answered beforehand."""
    if not yes and not typer.confirm(escape(question), err=True):
        fail("nothing was changed", Exit.FAILED)
