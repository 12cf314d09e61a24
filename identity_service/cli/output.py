"""What commands print and how they end. Human text by default, JSON with --json; errors on stderr.

Every command prints through here, where control characters are escaped: what is shown came from the service,
from its callers, or from a stranger's token.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from identity_client import IdentityError as CallError
from identity_client import PermissionDeniedError as CallDeniedError
from identity_client import ResourceExhaustedError as CallExhaustedError
from identity_client import UnauthenticatedError as CallUnauthenticatedError
from identity_client import UnavailableError as CallUnavailableError
from identity_service.domain import errors
from identity_service.domain.visible import escape, escape_lines, to_json
from identity_service.process import thread_limit
from identity_service.process.exit_codes import Exit as Exit
from identity_service.process.exit_codes import code_of_refusal

_WHOLE_LINES: Final = 10_000
"""Columns: for a pipe or a file, where no row should be broken."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def show(values: Mapping[str, object], *, as_json: bool) -> None:
    """One thing: a name and a value a line."""
    if as_json:
        _print_json(values)
        return
    shown = {escape(name): escape(_text(value)) for name, value in values.items()}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        put(f"{name:<{width}}  {value}")


def show_table(rows: Sequence[Mapping[str, object]], *, as_json: bool, empty: str) -> None:
    """Several things: a row each."""
    if as_json:
        _print_json(rows)
    elif not rows:
        put(empty)
    else:
        # Folded, not cut off, and the first column never: ids are there to be copied.
        columns = (Column(name, overflow="fold", no_wrap=name == next(iter(rows[0]))) for name in rows[0])
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            # As Text: a plain string would be read as rich's markup.
            table.add_row(*(Text(_encodable(escape(_text(value)))) for value in row.values()))
        Console(width=None if sys.stdout.isatty() else _WHOLE_LINES).print(table)


def put(line: str) -> None:
    """Print one line of the result at once."""
    sys.stdout.write(f"{_encodable(escape(line))}\n")
    sys.stdout.flush()


def put_json(value: object, *, indent: int | None = None) -> None:
    """Print a value as JSON at once: on one line unless `indent` is given."""
    text = to_json(value, default=_plain, indent=indent)
    # JSON has its own way to spell what the terminal's encoding lacks; that of Python would be no JSON.
    if _encodable(text) != text:
        text = to_json(value, default=_plain, indent=indent, ascii_only=True)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def put_styled(*parts: tuple[str, str]) -> None:
    """Print one line of texts, each with its style, if the terminal has styles."""
    line = Text.assemble(*((_encodable(escape(text)), style) for text, style in parts))
    Console(highlight=False, soft_wrap=True).print(line)


def say(text: str) -> None:
    """A remark beside the result, on stderr so that it is in nobody's way."""
    sys.stderr.write(f"{escape_lines(text)}\n")


@cache
def say_trimmed(name: str) -> None:
    """Say once that the blanks or line breaks around this secret are not taken for a part of it."""
    say(f"identity: {name}: the line breaks or blanks around it are left out; store it without them")


def fail(message: str, code: Exit, *, as_json: bool = False, reason: str = "") -> NoReturn:
    """Say what went wrong, in a line for each problem, and end. Line breaks must be this program's own."""
    if as_json:
        _print_json({"error": message, "reason": reason})
    for line in message.split("\n"):
        say(f"identity: {line}")
    raise typer.Exit(code)


@contextmanager
def failures(*, as_json: bool) -> Iterator[None]:
    """Turns what a command may raise into a line and an exit code."""
    try:
        with thread_limit.named():
            yield
    except errors.IdentityError as error:
        # A configuration error has a line for each problem; any other text may be a store's or a service's.
        message = str(error) if isinstance(error, errors.ConfigurationError) else escape(str(error))
        fail(message, code_of_refusal(error), as_json=as_json, reason=error.reason)
    except CallError as error:
        fail(escape(str(error)), code_of(error), as_json=as_json, reason=error.reason)


def code_of(error: CallError) -> Exit:
    """How a command ends whose call failed."""
    if isinstance(error, CallUnauthenticatedError | CallDeniedError):
        return Exit.REFUSED
    if isinstance(error, CallUnavailableError | CallExhaustedError):
        return Exit.UNAVAILABLE
    return Exit.FAILED


def _print_json(value: object) -> None:
    put_json(value, indent=2)


def _encodable(text: str) -> str:
    """The text with what standard output cannot encode spelled out, as in a Latin-1 terminal."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset | set) else str(value)


def _text(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return " ".join(map(_text, value)) or "-"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case dict():
            return to_json(value, default=_plain)
        case _:
            return str(value)
