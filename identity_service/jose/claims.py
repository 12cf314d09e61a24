"""Readers of the claims that every JWT has, with strict types (RFC 7519 section 4.1).

The module decides nothing.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from identity_shared.strict import MAX_DEPTH, JsonObject, parse_object

MAX_KEY_ID_CHARS: Final = 256
"""The longest `kid` in a header, in characters."""
_MAX_TIME: Final = 253402214399
"""The end of 30 December 9999, in Unix seconds: a day before Python's last time, since a leeway is added."""


def parse_claims(data: bytes) -> JsonObject:
    """Parse the claims of a token as `parse_object` does. Raises ValueError as it does.

    This service writes JSON with orjson, and without spaces. If orjson makes the same bytes of the parsed
    object, it has no member twice and no long or infinite number, and `parse_object`, which takes three times
    as long (bar S2), would return the same. It decides about all other bytes.
    """
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        try:
            value = orjson.loads(data)
            if type(value) is dict and orjson.dumps(value) == data:
                return value
        except (ValueError, TypeError):  # orjson cannot read or write it
            pass
    return parse_object(data)


def read_text(claims: Mapping[str, Any], name: str) -> str:
    """Return a claim that is a non-empty string.

    Raises ValueError, as the other functions here do, naming the claim that is missing or of another type.
    """
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text")
    return value


def read_time(claims: Mapping[str, Any], name: str) -> datetime:
    """Return a claim that is a NumericDate (RFC 7519 section 2), at most the end of 30 December 9999."""
    value: Any = claims.get(name)
    # Compare the exact type: True is an int. Infinity is out of the bounds.
    if type(value) not in (int, float) or not 0 <= value <= _MAX_TIME:
        raise ValueError(f"{name} must be a date in seconds")
    return datetime.fromtimestamp(value, UTC)


def read_audience(value: object) -> str | tuple[str, ...]:
    """Return an `aud` claim as it is: a string, or a tuple of strings for a list."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or set(map(type, value)) != {str}:
        raise ValueError("aud must be a text or a list of texts")
    return tuple(value)
