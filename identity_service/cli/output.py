"""Output and exit codes of commands: text by default, JSON with --json, errors on standard error.

Every command prints through this module, which escapes control characters: the values come from the service,
from its callers, or from a token of unknown origin.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Annotated, Final, Literal, NoReturn

import typer

from identity_service.domain import errors
from identity_service.domain.visible import escape, escape_lines, to_json
from identity_service.process import thread_limit
from identity_service.process.exit_codes import Exit as Exit
from identity_service.process.exit_codes import code_of_refusal

_UNWRAPPED_WIDTH: Final = 10_000
"""The width, in columns, of a table that is written to a pipe or a file, so that no row is wrapped."""

_NOT_UTF_8: Final = (
    "an argument, an environment variable or the standard input is not UTF-8: set the locale of the terminal "
    "to one with UTF-8, such as C.UTF-8, and give the value again"
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def show(values: Mapping[str, object], *, as_json: bool) -> None:
    """Print one record: a name and a value per line, or a JSON object."""
    if as_json:
        _print_json(values)
        return
    shown = {escape(name): escape(_text(value)) for name, value in values.items()}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        put(f"{name:<{width}}  {value}")


def show_table(rows: Sequence[Mapping[str, object]], *, as_json: bool, empty: str) -> None:
    """Print one table row per record, or a JSON array; as text, `empty` if there are no records."""
    if as_json:
        _print_json(rows)
    elif not rows:
        put(empty)
    else:
        # Imported here, since most commands print neither a table nor a style.
        from rich.console import Console
        from rich.table import Column, Table
        from rich.text import Text

        # Long values are folded, never cut off, and the first column is not even folded: ids are for copying.
        columns = (Column(name, overflow="fold", no_wrap=name == next(iter(rows[0]))) for name in rows[0])
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            # Wrapped in Text: rich would interpret markup in a plain string.
            table.add_row(*(Text(_encodable(escape(_text(value)))) for value in row.values()))
        width = None if sys.stdout.isatty() else _UNWRAPPED_WIDTH
        Console(width=width, color_system=color_system()).print(table)


def put(line: str) -> None:
    """Print one line of the result and flush it."""
    sys.stdout.write(f"{_encodable(escape(line))}\n")
    sys.stdout.flush()


def put_json(value: object, *, indent: int | None = None) -> None:
    """Print a value as JSON and flush it: on one line unless `indent` is given."""
    text = to_json(value, default=_plain, indent=indent)
    # Characters that the encoding lacks become JSON escapes: Python's own escapes are not valid JSON.
    if _encodable(text) != text:
        text = to_json(value, default=_plain, indent=indent, ascii_only=True)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def put_styled(*parts: tuple[str, str]) -> None:
    """Print one line of texts, each in its style if the terminal supports styles."""
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(*((_encodable(escape(text)), style) for text, style in parts))
    Console(highlight=False, soft_wrap=True, color_system=color_system()).print(line)


def color_system() -> Literal["auto"] | None:
    """Return the color system of rich: None, which also turns bold and dim off, if NO_COLOR is set."""
    return None if os.environ.get("NO_COLOR") else "auto"


def say(text: str) -> None:
    """Print a remark on standard error, apart from the result on standard output."""
    sys.stderr.write(f"{escape_lines(text)}\n")


@cache
def say_trimmed(name: str) -> None:
    """Say once per process that blanks or line breaks around this secret are not part of it."""
    say(f"identity: {name}: blanks or line breaks around the value are ignored; store it without them")


class FailedError(Exception):
    """The end of a command that has failed, with its message and exit code; see `fail`."""

    def __init__(self, message: str, code: Exit, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


def fail(message: str, code: Exit = Exit.USAGE, *, reason: str = "") -> NoReturn:
    """End the command with an error, one line per problem. Parts from elsewhere must have no line breaks."""
    raise FailedError(message, code, reason)


@contextmanager
def failures(*, as_json: bool) -> Iterator[None]:
    """Print an error that the block raises, and exit with the exit code of its class."""
    try:
        with thread_limit.named():
            yield
    except FailedError as error:
        failed = error
    except errors.IdentityError as error:
        # Only a configuration error has several lines; other texts may come from a store or a service.
        message = str(error) if isinstance(error, errors.ConfigurationError) else escape(str(error))
        failed = FailedError(message, code_of_refusal(error), error.reason)
    except UnicodeError:
        # The text of the error is not shown: it names a character of the value, which may be a password.
        failed = FailedError(_NOT_UTF_8, Exit.USAGE)
    else:
        return
    if as_json:
        _print_json({"error": str(failed), "reason": failed.reason})
    for line in str(failed).split("\n"):
        say(f"identity: {line}")
    raise typer.Exit(failed.code)


def _print_json(value: object) -> None:
    put_json(value, indent=2)


def _encodable(text: str) -> str:
    """Escape the characters that standard output cannot encode, e.g. on a Latin-1 terminal."""
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
