"""What commands print and how they end. Human text by default, JSON with --json; errors on stderr."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Column, Table

from identity_client import IdentityError as CallError
from identity_client import PermissionDeniedError as CallDeniedError
from identity_client import ResourceExhaustedError as CallExhaustedError
from identity_client import UnauthenticatedError as CallUnauthenticatedError
from identity_client import UnavailableError as CallUnavailableError
from identity_service.domain import errors
from identity_service.exit_codes import Exit as Exit
from identity_service.exit_codes import code_of_refusal

_WHOLE_LINES: Final = 10_000
"""Columns: for a pipe or a file, where no row should be broken."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def show(values: Mapping[str, object], *, as_json: bool) -> None:
    """One thing: a name and a value a line."""
    if as_json:
        _print_json(values)
        return
    width = max(map(len, values), default=0)
    for name, value in values.items():
        sys.stdout.write(f"{name:<{width}}  {_text(value)}\n")


def show_table(rows: Sequence[Mapping[str, object]], *, as_json: bool, empty: str) -> None:
    """Several things: a row each."""
    if as_json:
        _print_json(rows)
    elif not rows:
        sys.stdout.write(f"{empty}\n")
    else:
        # Folded, not cut off, and the first column never: ids are there to be copied.
        columns = (Column(name, overflow="fold", no_wrap=name == next(iter(rows[0]))) for name in rows[0])
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(_text(value) for value in row.values()))
        Console(width=None if sys.stdout.isatty() else _WHOLE_LINES).print(table)


def say(text: str) -> None:
    """A remark beside the result, on stderr so that it is in nobody's way."""
    sys.stderr.write(f"{text}\n")


def fail(message: str, code: Exit, *, as_json: bool = False, reason: str = "") -> NoReturn:
    """Say what went wrong and end."""
    if as_json:
        _print_json({"error": message, "reason": reason})
    say(f"identity: {message}")
    raise typer.Exit(code)


@contextmanager
def failures(*, as_json: bool) -> Iterator[None]:
    """Turns what a command may raise into a line and an exit code."""
    try:
        yield
    except errors.IdentityError as error:
        fail(str(error), code_of_refusal(error), as_json=as_json, reason=error.reason)
    except CallError as error:
        fail(str(error), code_of(error), as_json=as_json, reason=error.reason)


def code_of(error: CallError) -> Exit:
    """How a command ends whose call failed."""
    if isinstance(error, CallUnauthenticatedError | CallDeniedError):
        return Exit.REFUSED
    if isinstance(error, CallUnavailableError | CallExhaustedError):
        return Exit.UNAVAILABLE
    return Exit.FAILED


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False, indent=2) + "\n")


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
            return json.dumps(value, default=_plain, ensure_ascii=False)
        case _:
            return str(value)
