"""Characters of untrusted text: which a name or a text for people may contain, and how others are escaped.

Control characters can move the cursor, begin a line or reorder other text. This module contains the only list
of them. The API refuses them in text for people; all text that is printed, logged or written passes `escape`
or `to_json`, since older records and tokens of other issuers contain them. Invisible characters change
nothing around them and are not escaped, but they make two texts differ that look the same.
"""

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Final

NO_CONTROLS: Final = "must have no control characters, line separators or invisible formatting characters"
"""The description, in errors, of a text for which `has_controls` is False."""

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
MAX_MARKS: Final = 8
"""The largest number of combining marks in a row: more of them cover the lines above and below the text."""

VISIBLE_NAME: Final = (
    f"visible characters, without spaces and with at most {MAX_MARKS} combining marks in a row"
)
"""The description, in errors, of a text for which `is_visible_name` is True."""

VISIBLE_TEXT: Final = (
    "must have no control characters, line separators or invisible characters (joiners and variation "
    "selectors only within emoji and within scripts that need them), and at most "
    f"{MAX_MARKS} combining marks in a row"
)
"""The description, in errors, of a text for which `is_visible_text` is True."""

_IGNORABLE: Final = (
    # Default_Ignorable_Code_Point in DerivedCoreProperties.txt of Unicode 16.0.
    r"\u00ad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_BLANK: Final = (
    # Characters of other properties whose glyph is empty: the blank of Braille, the null notehead, the filler
    # of Khitan, the blanks of Egyptian hieroglyphs.
    r"\u2800\U0001d159\U00016fe4\U00013441-\U00013442"
)
_NONCHARACTERS: Final = r"\ufdd0-\ufdef" + "".join(
    f"\\U{plane:04x}fffe-\\U{plane:04x}ffff" for plane in range(17)
)

_INVISIBLE: Final = re.compile(f"[{_IGNORABLE}{_BLANK}{_NONCHARACTERS}]")
_JOINERS: Final = "\u200c\u200d"
_SELECTORS: Final = "\ufe0e\ufe0f"
"""The variation selectors that display the preceding character as text, or as emoji."""
_VIRAMA: Final = 9
"""The canonical combining class of viramas: marks that join letters in scripts of India."""


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


def has_invisible(text: str) -> bool:
    """Return whether `text` has a default-ignorable code point, a blank character or a noncharacter."""
    return _INVISIBLE.search(text) is not None


def is_visible_name(text: str) -> bool:
    """Return whether every character of a name is visible, so that two names that differ look different.

    Letters of two scripts that look alike pass.
    """
    if text.isascii():
        return text.isprintable() and " " not in text
    seen = text.isprintable() and not any(c.isspace() for c in text)
    return seen and not has_invisible(text) and not _has_many_marks(text)


def is_visible_text(text: str) -> bool:
    """Return whether a text for people can be displayed as it is, including emoji and text in every script.

    A joiner (U+200C, U+200D) is accepted between emoji, after a letter of a right-to-left script and beside a
    virama; U+FE0E and U+FE0F are accepted after a symbol, a digit or a punctuation mark.
    """
    if text.isascii():
        return not has_controls(text)
    if has_controls(text) or _has_many_marks(text):
        return False
    return all(_is_in_place(text, found.start()) for found in _INVISIBLE.finditer(text)) and all(
        _joins(text, found.start()) for found in re.finditer(f"[{_JOINERS}]", text)
    )


def comparable(text: str) -> str:
    """Return the form in which a password is compared with a name: equal for texts that look the same.

    NFKC, without invisible characters, control characters and spaces, case folded; a dotted and a dotless i
    are an i. Two texts with the same form look the same, or differ only in case in some language.
    """
    folded = _visible_part(unicodedata.normalize("NFKC", _visible_part(text)).casefold())
    folded = unicodedata.normalize("NFKC", folded.replace("i\u0307", "i").replace("\u0131", "i"))
    return _visible_part(folded)


def _visible_part(text: str) -> str:
    return "".join(c for c in _INVISIBLE.sub("", text) if not c.isspace() and not has_controls(c))


def _has_many_marks(text: str) -> bool:
    row = 0
    for character in text:
        row = row + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if row > MAX_MARKS:
            return True
    return False


def _is_in_place(text: str, index: int) -> bool:
    """Return whether the invisible character at `index` is needed by the characters around it."""
    if text[index] in _JOINERS:
        return True  # `_joins` decides
    return text[index] in _SELECTORS and index > 0 and _takes_a_selector(text[index - 1])


def _takes_a_selector(character: str) -> bool:
    """Return whether a variation selector may follow a character.

    The kinds of these characters are those in emoji-variation-sequences.txt of Unicode.
    """
    return (
        character == "\u2139"
        or _is_symbol(character)
        or (unicodedata.category(character)[0] in "PN" and not has_invisible(character))
    )


def _joins(text: str, index: int) -> bool:
    """Return whether the joiner at `index` has an effect: RFC 5892 appendix A, and emoji."""
    before, after = text[:index], text[index + 1 : index + 2]
    if not before or before[-1] in _JOINERS:
        return False
    if unicodedata.combining(before[-1]) == _VIRAMA or (after and unicodedata.combining(after) == _VIRAMA):
        return True
    base = next((c for c in reversed(before) if unicodedata.category(c) != "Mn"), "")
    if base and unicodedata.bidirectional(base) in ("AL", "R"):
        return True
    return bool(base and after) and _is_symbol(base) and _is_symbol(after)


def _is_symbol(character: str) -> bool:
    """Return whether a character is a symbol, or in the blocks of emoji, which Unicode extends each year."""
    category = unicodedata.category(character)
    return "\U0001f000" <= character < "\U00020000" or (category[0] == "S" and not has_invisible(character))
