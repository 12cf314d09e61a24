"""Strict parsing of untrusted input: one spelling of base64url, one meaning of a JSON object.

The libraries are lenient here (padding, duplicate members, infinite numbers); RFC 7515 section 4 and RFC 8725
section 3 ask for the opposite.
"""

import binascii
import json
import string
from collections.abc import Callable
from typing import Any, Final

MAX_DEPTH: Final = 16
_MAX_DIGITS: Final = 32
_WHITE_SPACE: Final = " \t\n\r"
"""The characters that JSON permits before and after a value."""
_ALPHABET: Final = f"{string.ascii_letters}{string.digits}-_".encode()
_STANDARD: Final = bytes(byte if byte in _ALPHABET else 0 for byte in range(256)).translate(
    bytes.maketrans(b"-_", b"+/")
)
"""A table that maps base64url to base64, and every other character to one that base64 does not have."""
_PADDING: Final = (b"", b"", b"==", b"=")
_LAST_CHARACTERS: Final = {1: frozenset[str](), 2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}
"""The permitted last characters of a text, by its length modulo 4: those whose unused bits are 0."""

JsonObject = dict[str, Any]

MALFORMED: Final = object()
"""The object that replaces a value that is not well-formed."""


def decode_base64url(text: str) -> bytes:
    """Decode unpadded, canonical base64url (RFC 4648 section 3.5).

    Raises ValueError for any other spelling.
    """
    tail = len(text) % 4
    if tail and text[-1] not in _LAST_CHARACTERS[tail]:
        raise ValueError("not canonical base64url")
    try:
        # `base64.urlsafe_b64decode` takes longer to check its arguments than to decode.
        return binascii.a2b_base64(text.encode().translate(_STANDARD) + _PADDING[tail], strict_mode=True)
    except ValueError:
        raise ValueError("not canonical base64url") from None


def parse_object(data: bytes) -> JsonObject:
    """Parse a JSON object in UTF-8 without duplicate members, deep nesting or excessive numbers.

    Nesting is limited to 16 levels, numbers to 32 characters and finite values. Raises ValueError for
    anything else.
    """
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _check_depth(data)
    text = data.decode("utf-8").strip(_WHITE_SPACE)
    try:
        # `decode` strips the text as well, with regular expressions.
        value, end = _DECODER.raw_decode(text)
    except RecursionError as error:  # pragma: no cover  # the depth was checked
        raise ValueError("nested too deeply") from error
    if type(value) is not dict or end != len(text):
        raise ValueError("not a JSON object")
    if "\\" in text:
        # Half of a surrogate pair is not text (RFC 7493 section 2.1), and cannot be encoded in UTF-8 again.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def parse_around_faults(data: bytes) -> JsonObject:
    """Parse a JSON object, with MALFORMED in place of each value inside that `parse_object` would refuse.

    This keeps one faulty element of a list from invalidating the others. Only for values that are each
    checked before use and never written: they may hold half of a surrogate pair. Raises ValueError if the
    text is not JSON, is nested too deeply, or has a member of the outermost object twice.
    """
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _check_depth(data)
    value = _TOLERANT_DECODER.decode(data.decode("utf-8"))
    if value is MALFORMED:
        raise ValueError("a member occurs twice")
    if type(value) is not dict:
        raise ValueError("not a JSON object")
    return value


def _check_depth(data: bytes) -> None:
    """Raise ValueError if the nesting is too deep, counting brackets outside of strings.

    Only called for input with more brackets than the nesting limit.
    """
    depth, in_string, escaped = 0, False, False
    for byte in data:
        if in_string:
            in_string = escaped or byte != 0x22
            escaped = byte == 0x5C and not escaped
        elif byte == 0x22:
            in_string = True
        elif byte in b"{[":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError("nested too deeply")
        elif byte in b"}]":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member occurs twice")
    return found


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("a number is too long")
    return int(text)


def _float(text: str) -> float:
    if len(text) > _MAX_DIGITS:
        raise ValueError("a number is too long")
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number


def _no_constant(_: str) -> Any:
    raise ValueError("not a JSON number")


def _or_malformed(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read_or_mark(text: Any) -> Any:
        try:
            return read(text)
        except ValueError:
            return MALFORMED

    return read_or_mark


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_float, parse_constant=_no_constant
)
_TOLERANT_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_or_malformed(_unique),
    parse_int=_or_malformed(_integer),
    parse_float=_or_malformed(_float),
    parse_constant=_or_malformed(_no_constant),
)
