"""Checks of the URLs that this service fetches from, and of loopback addresses."""

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

MAX_URL_CHARS: Final = 2048
SAFE_URL: Final = "an https URL (http on loopback only) without user, password or fragment"


def is_safe_url(text: str) -> bool:
    """Return whether a URL satisfies SAFE_URL and is ASCII.

    Keys that are fetched without TLS could be replaced on the way, so tokens verified with them prove
    nothing.
    """
    if not (len(text) <= MAX_URL_CHARS and text.isascii() and text.isprintable() and " " not in text):
        return False
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        return False
    if not host or "@" in url.netloc or "#" in text or "\\" in text:
        return False
    return url.scheme == "https" or (url.scheme == "http" and is_loopback_host(host))


def server_of(text: str) -> tuple[str, str, int]:
    """Return the scheme, host and port of a URL for which `is_safe_url` is True."""
    url = urlsplit(text)
    return url.scheme, url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


def is_loopback_host(host: str) -> bool:
    """Return whether a host name or address (without brackets) is a loopback one."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_loopback(listen: str) -> bool:
    """Return whether host:port is reachable from this machine only."""
    return is_loopback_host(listen.rpartition(":")[0].strip("[]"))
