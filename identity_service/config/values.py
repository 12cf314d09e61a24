"""The types of settings (durations, addresses, URLs), and how each value is shown without its secrets.

No setting is named here, except `store`, which is shown as a URL.
"""

import re
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from identity_service.config.issuer_url import why_not_issuer_url
from identity_service.domain.dpop import normalised_uri

_REDIS_SCHEMES: Final = tuple(
    f"{s}{kind}" for s in ("redis", "rediss") for kind in ("", "+sentinel", "+cluster")
)
_NO_AUTHORITY: Final = frozenset("/?#@")
"""Characters that end an authority, or separate a user from it (RFC 3986 section 3.2)."""
_DURABILITY: Final = re.compile(r"unsynced|local|replicas:[1-9][0-9]?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)")


def _parse_duration(value: object) -> timedelta:
    """Parse a duration such as `500ms`, `15m`, `24h` or `30d`, or a number of seconds."""
    if isinstance(value, timedelta):
        return value
    number, unit = value, "s"
    if isinstance(value, str) and (written := _DURATION.fullmatch(value.strip())):
        number, unit = float(written[1]), written[2] or "s"
    if isinstance(number, int | float) and not isinstance(number, bool):
        try:
            return timedelta(seconds=number * _UNITS[unit])
        except (ValueError, OverflowError):  # not a number, infinite, or more than a timedelta holds
            pass
    raise ValueError("must be a duration such as 500ms, 15m, 24h or 30d")


def within(low: str, high: str) -> AfterValidator:
    """Return a validator of a duration's bounds, so that each setting out of bounds is reported by name."""
    lowest, highest = _parse_duration(low), _parse_duration(high)

    def check(value: timedelta) -> timedelta:
        if not lowest <= value <= highest:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return AfterValidator(check)


def whole(default: int, low: int, high: int, meaning: str) -> Any:
    """Return a setting that is a whole number from `low` to `high`, which its description says."""
    return Field(default, ge=low, le=high, description=f"{meaning}; {low:,} to {high:,}")


Duration = Annotated[timedelta, BeforeValidator(_parse_duration)]
"""A duration such as `15m`, or a number of seconds; `within` adds bounds."""


def _split(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


Split = BeforeValidator(_split)
"""Splits a text of entries separated by commas or spaces, as in an environment variable."""
Texts = Annotated[tuple[str, ...], Split]
"""Texts that contain neither a comma nor a space."""


def _check_address(value: str) -> str:
    _, colon, port = value.rpartition(":")
    if not colon or "/" in value or not port.isdecimal() or int(port) > 65535:
        raise ValueError("must be host:port without a scheme, such as 127.0.0.1:8443")
    return value


Address = Annotated[str, AfterValidator(_check_address)]
"""host:port, on which a process listens; port 0 = a free one."""
OptionalAddress = Annotated[str, AfterValidator(lambda value: value and _check_address(value))]
"""The same, or an empty text: the process does not listen for this."""


def _check_durability(value: str) -> str:
    if not _DURABILITY.fullmatch(value):
        raise ValueError("must be unsynced, local or replicas:N with N from 1 to 99")
    return value


Durability = Annotated[str, AfterValidator(_check_durability)]
"""The confirmation that the store needs before a write is acknowledged."""


def _check_store_url(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in ("sqlite", *_REDIS_SCHEMES):
        raise ValueError(
            "must be sqlite:///path, redis://host:port/db, redis+sentinel://host:port,…/service/db or "
            "redis+cluster://host:port,…; rediss for TLS"
        )
    if scheme == "sqlite":
        if not rest.removeprefix("/"):
            raise ValueError("must name a file, as in sqlite:///var/identity.db")
        return value
    try:
        for name in urlsplit(value).netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{name}").port  # raises ValueError for an invalid port
    except ValueError:
        # `from None`: the library's message quotes a part of the URL that may be the password.
        raise ValueError("must be redis://user:password@host:port/db, the password percent-encoded") from None
    return value


StoreUrl = Annotated[str, AfterValidator(_check_store_url)]
"""The URL of a store: an SQLite file, or Redis."""


def _check_authority(value: str) -> str:
    with suppress(ValueError):
        if _NO_AUTHORITY.isdisjoint(value) and normalised_uri(f"https://{value}/"):
            return value
    raise ValueError(
        "must be a host or host:port, as in identity.example.org:8443, without scheme, user and path"
    )


Authority = Annotated[str, AfterValidator(_check_authority)]
"""The authority of a URL: a host, or host:port."""


def _check_origin(value: str) -> str:
    """Return the text if it is an origin as browsers write it. Raises ValueError."""
    scheme, _, rest = value.partition("://")
    if scheme not in ("http", "https") or set(rest) & set("/?#@*") or why_not_issuer_url(value, dev=True):
        raise ValueError(
            "must be an exact origin as in https://app.example.org: scheme, host in lower case, and the port "
            "if it is not the usual one; http for this machine only"
        )
    return value


WebOrigin = Annotated[str, AfterValidator(_check_origin)]
"""The origin of a web page (RFC 6454), as browsers send it."""


def authority_of(url: str) -> tuple[str, ...]:
    """Return the authority of an https URL as the only entry; empty if the text is not such a URL."""
    scheme, _, rest = url.partition("://")
    authority = rest.partition("/")[0]
    try:
        return (_check_authority(authority),) if scheme == "https" else ()
    except ValueError:
        return ()


def mask(name: str, value: object) -> str:
    """Return the value of a setting as text, without secrets; an empty text for None."""
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, timedelta):
        return _duration_text(value)
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if name == "store" and isinstance(value, str):
        return _mask_url(value)
    return "" if value is None else str(value)


def _duration_text(value: timedelta) -> str:
    """Return the duration as a setting accepts it: in whole days, or in seconds without an exponent."""
    days, rest = divmod(value, timedelta(days=1))
    if days and not rest:
        return f"{days}d"
    return f"{value.total_seconds():f}".rstrip("0").rstrip(".") + "s"


def _mask_url(url: str) -> str:
    """Hide the user and the password, and the query, since redis-py accepts a password there as well."""
    if url.startswith("sqlite:"):
        return url
    location = urlsplit(url)
    if "@" in location.path + location.query + location.fragment:
        # A password that is not percent-encoded: the host cannot be recognised.
        return f"{location.scheme}://***"
    _, at, host = location.netloc.rpartition("@")
    query = "?***" if location.query or location.fragment else ""
    return f"{location.scheme}://{'***@' if at else ''}{host}{location.path}{query}"
