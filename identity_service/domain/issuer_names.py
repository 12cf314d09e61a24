"""Comparison of issuer names, to find spellings of one name.

The `iss` of a token is compared exactly instead.
"""

import unicodedata
from contextlib import suppress
from ipaddress import ip_address
from posixpath import normpath
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from identity_service.domain.invisible import comparable

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


def is_same_issuer(first: str, second: str) -> bool:
    """Return whether two issuer names are spellings of the same name.

    For URLs these do not matter: the case of scheme and host, the default port, a dot after the host, slashes
    at the end of the path, dot segments, percent-encoding, and the form of an internationalised host (NFKC,
    then IDNA). For other names case and invisible characters do not matter.
    """
    return first == second or _canonical(first) == _canonical(second)


def _canonical(name: str) -> object:
    text = unicodedata.normalize("NFKC", name)
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return comparable(text)
    if not url.hostname:
        return comparable(text).rstrip("/")
    default = _DEFAULT_PORTS.get(url.scheme)
    port = default if port is None else port
    return url.scheme, _host(url.hostname), port, _path(url), url.query, url.fragment


def _host(host: str) -> str:
    text = comparable(host)
    with suppress(ValueError):
        return str(ip_address(text))
    try:
        return text.encode("idna").decode("ascii").lower().rstrip(".")
    except UnicodeError:  # an empty label, or a long one
        return text.rstrip(".")


def _path(url: SplitResult) -> str:
    """Return the path without dot segments, empty segments and a slash at its end."""
    return normpath("/" + unquote(url.path).lstrip("/"))
