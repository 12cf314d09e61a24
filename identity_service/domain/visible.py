"""Escaping of untrusted text, so that it cannot move the cursor, begin a line or reorder other text.

Contains the only list of the characters that can. The API refuses them in text for people; all text that is
printed, logged or written passes `escape` or `to_json`, since older records and tokens of other issuers
contain them.
"""

import json
import re
from collections.abc import Callable
from typing import Final

NO_CONTROLS: Final = "must have no control characters, line separators or invisible formatting characters"
"""How an error describes a text for which `has_controls` is False."""

_MAX_SHOWN: Final = 200
_CONTROL: Final = re.compile(
    "["
    r"\x00-\x1f\x7f-\x9f"  # C0, DEL and C1
    r"\ud800-\udfff"  # lone surrogates
    r"\u2028\u2029"  # line and paragraph separator
    # Formatting, such as direction; not U+200C and U+200D, which Persian, Hindi and many emoji need.
    r"\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e\u200b\u200e-\u200f\u202a-\u202e"
    r"\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
    "]"
)
"""The Unicode categories Cc, Cs, Zl, Zp and Cf, spelled out: computing them takes 0.1 s at each start."""


def has_controls(text: str) -> bool:
    """Return whether `text` has a character that could change how the text around it is displayed."""
    return _CONTROL.search(text) is not None


def escape(text: str) -> str:
    r"""Return `text` as one line, with each control character escaped as in Python: `\n`, `\x1b`, `\u202e`.

    Backslashes are not escaped: the result is for people, and is not meant to be parsed.
    """
    return _CONTROL.sub(_spelled, text)


def shown(text: str) -> str:
    """Return an untrusted text as it may be logged: escaped to one line, truncated to 200 characters."""
    return escape(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")


def escape_lines(text: str) -> str:
    """Return `text` with its lines kept and escaped.

    Only for text whose line breaks come from this program.
    """
    return "\n".join(map(escape, text.split("\n")))


def to_json(
    value: object,
    *,
    default: Callable[[object], object] = str,
    indent: int | None = None,
    ascii_only: bool = False,
) -> str:
    r"""Return a value as JSON whose strings have their control characters escaped, as in `\u202e`."""
    return escape_json(json.dumps(value, default=default, ensure_ascii=ascii_only, indent=indent))


def escape_json(text: str) -> str:
    """Return an equivalent JSON text with control characters escaped.

    Its own line breaks stay: no JSON string can contain one.
    """
    return _CONTROL.sub(_spelled_in_json, text)


def _spelled(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _spelled_in_json(found: re.Match[str]) -> str:
    return found[0] if found[0] == "\n" else json.dumps(found[0])[1:-1].replace("\x7f", "\\u007f")
