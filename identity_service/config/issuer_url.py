"""The form of `issuer` if clients find the service by it: `http_listen` is set.

Clients fetch `<issuer>/.well-known/openid-configuration`, and compare the issuer in the answer and in tokens
with the one that they were configured with, byte for byte. Libraries normalise URLs in different ways, so
only a URL that none of them writes differently is accepted.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from identity_service.domain.urls import is_loopback_host

EXAMPLE: Final = "https://identity.example.org"

_LABEL: Final = r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes URL parsers take the host for an IPv4 address (WHATWG URL, section 3.5)."""
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/?")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


def why_not_issuer_url(issuer: str, *, dev: bool) -> str | None:
    """Return why clients cannot find a service by this issuer, and what to write instead; None if they can.

    It must be an https URL or, with `dev` (the flag `--dev`), an http URL of this machine. The answer quotes
    no part of the issuer that may be a password.
    """
    try:
        url = urlsplit(issuer)
        host, port = url.hostname or "", url.port
    except ValueError:
        return f"is not a URL; write an https URL such as {EXAMPLE}"
    if url.scheme not in _DEFAULT_PORTS or not host:
        return (
            f"must be the https URL at which clients find the service, such as {EXAMPLE}, since "
            "`http_listen` is set; list the name that it has now in `accepted_issuers`"
        )
    if url.scheme == "http" and not is_loopback_host(host):
        return f"must begin with https://; write {_canonical(url, 'https', None) or EXAMPLE}"
    if url.scheme == "http" and not dev:
        return f"may be an http URL with --dev only; write an https URL such as {EXAMPLE}"
    if problems := [*_problems(issuer, url, host, port)]:
        advice = _canonical(url, url.scheme, port) or f"a URL such as {EXAMPLE}"
        return f"{', '.join(problems)}: clients compare it byte for byte; write {advice}"
    return None


def _problems(issuer: str, url: SplitResult, host: str, port: int | None) -> Iterator[str]:
    if issuer != issuer.strip() or not issuer.isascii() or not issuer.isprintable():
        yield "must not have white space or characters beyond ASCII"
    if "@" in url.netloc:
        yield "must not have a user or password"
    if "?" in issuer or "#" in issuer:
        yield "must not have a query or fragment"
    if not _is_host(host):
        yield "must have a host name or address in its usual form"
    if port in (0, _DEFAULT_PORTS[url.scheme]):
        yield f"must not have the port {port}"
    if not _is_path(url.path):
        yield "must have a path of letters, digits and - . _ ~, without empty or dot segments"
    if url._replace(netloc=_netloc(host, port)).geturl() != issuer and "@" not in url.netloc:
        yield "must have the scheme and the host in lower case, and the port without leading zeros"


def _is_host(host: str) -> bool:
    """Return whether no URL parser writes this host, which is in lower case, differently."""
    try:
        return str(ip_address(host)) == host and "%" not in host
    except ValueError:
        return bool(_NAME.fullmatch(host)) and not _NUMBER.fullmatch(host.rpartition(".")[2])


def _is_path(path: str) -> bool:
    return bool(_PATH.fullmatch(path)) and not {".", ".."} & set(path.split("/"))


def _netloc(host: str, port: int | None) -> str:
    try:
        shown = f"[{host}]" if isinstance(ip_address(host), IPv6Address) else host
    except ValueError:
        shown = host
    return shown if port is None else f"{shown}:{port}"


def _canonical(url: SplitResult, scheme: str, port: int | None) -> str | None:
    """Return the URL in the accepted spelling, without user and query; None if it cannot be corrected."""
    host = (url.hostname or "").strip().rstrip(".")
    with suppress(ValueError):
        host = str(ip_address(host))
    path = url.path.strip()
    if "\\" in url.netloc or not _is_host(host) or not _is_path(path):
        return None
    return f"{scheme}://{_netloc(host, None if port in (0, _DEFAULT_PORTS[scheme]) else port)}{path}"
