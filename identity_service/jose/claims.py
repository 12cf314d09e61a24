"""Claims that every JWT has, read with their exact types (RFC 7519 section 4.1). Decides nothing."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

MAX_KEY_ID_CHARS: Final = 256
"""Of a `kid` in a header."""
_MAX_TIME: Final = 253402300799
"""The end of the year 9999, in Unix seconds."""


def read_text(claims: Mapping[str, Any], name: str) -> str:
    """Raises ValueError, as the others here do, naming the claim that is missing or of another type."""
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text")
    return value


def read_time(claims: Mapping[str, Any], name: str) -> datetime:
    """RFC 7519 section 2, NumericDate, within what a calendar has."""
    value: Any = claims.get(name)
    # By exact type: True is an int, and infinity is out of bounds below.
    if type(value) not in (int, float) or not 0 <= value <= _MAX_TIME:
        raise ValueError(f"{name} must be a date in seconds")
    return datetime.fromtimestamp(value, UTC)


def read_audience(value: object) -> str | tuple[str, ...]:
    """One text or a list of them, as it stands."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value or not all(isinstance(a, str) for a in value):
        raise ValueError("aud must be a text or a list of texts")
    return tuple(value)
