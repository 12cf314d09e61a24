"""Strict parsing of tokens: base64url has one spelling, and a JSON object one meaning.

The libraries accept padding, duplicate members and infinite numbers; RFC 7515 section 4 and RFC 8725
section 3 do not. A test compares this parser with the service's.
"""

import base64
import binascii
import json
import string
from typing import Any, Final

MAX_DEPTH: Final = 16
_MAX_DIGITS: Final = 32
_ALPHABET: Final = f"{string.ascii_letters}{string.digits}-_".encode()
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_PADDING: Final = (b"", b"", b"==", b"=")
_LAST: Final = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}
"""The length of the text modulo 4 → the last characters whose unused bits are 0."""

JsonObject = dict[str, Any]


def decode_base64url(text: str) -> bytes:
    """Decode unpadded, canonical base64url (RFC 4648). Raises ValueError for another spelling."""
    data, left = text.encode(), len(text) % 4
    if data.translate(None, _ALPHABET):
        raise ValueError("not base64url")
    if left and (left == 1 or text[-1] not in _LAST[left]):
        raise ValueError("not canonical base64url")
    # As `base64.urlsafe_b64decode`, which looks at its arguments for longer than it decodes.
    return binascii.a2b_base64(data.translate(_STANDARD) + _PADDING[left])


def encode_base64url(data: bytes) -> str:
    """Return base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def parse_object(data: bytes) -> JsonObject:
    """Parse a JSON object in UTF-8.

    Raises ValueError for anything else, for duplicate members, for more than 16 levels of nesting, and for
    numbers of more than 32 characters or without a finite value.
    """
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if type(value) is not dict:
        raise ValueError("not a JSON object")
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _check_depth(value, MAX_DEPTH)
    if b"\\u" in data:
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair is no text
    return value


def _check_depth(value: object, left: int) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise ValueError("nested too deeply")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, left - 1)


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
    number = float(text)
    if len(text) > _MAX_DIGITS or number in (float("inf"), float("-inf")):
        raise ValueError("a number is too long or too large")
    return number


def _no_constant(_: str) -> Any:
    raise ValueError("not a JSON number")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_float, parse_constant=_no_constant
)
