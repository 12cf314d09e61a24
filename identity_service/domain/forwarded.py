"""The client for which a trusted proxy forwards a request, by the values of `x-forwarded-for`.

Each proxy appends the address from which it received the request. So a trusted proxy wrote the last entry
that is not the address of a trusted proxy; the client may have invented everything before that entry.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

FORWARDED_FOR: Final = "x-forwarded-for"
"""The header, or key of metadata, in which proxies forward the address of the client."""

Network = IPv4Network | IPv6Network
_ENDPOINT: Final = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?|([0-9a-fA-F:.]+)")
"""`[::1]` or `1.2.3.4`, with a port or without; or `::1`."""


def forwarded_client(peer: str, values: Iterable[str], proxies: Sequence[Network]) -> str | None:
    """Return host:port of the client for which the peer of a connection forwards a request.

    Returns None if the peer itself is the client: it is not a trusted proxy, or it forwards nothing. Entries
    are read from the last to the first, and those of trusted proxies are skipped. The next one is the client;
    if it is not an address, the client is not known, and the peer is returned. If all entries are addresses
    of trusted proxies, returns the first of them. The port is 0 if the proxy forwards none.

    Args:
        peer: host:port of the other end of the connection.
        values: the values of `x-forwarded-for`, in the order in which they were received.
        proxies: the networks of trusted proxies.
    """
    if not is_trusted(peer, proxies):
        return None
    client = None
    for entry in _from_the_right(values):
        client = _normalised(entry.strip(" \t"))
        if client is None:
            return peer
        if not is_trusted(client, proxies):
            return client
    return client


def _from_the_right(values: Iterable[str]) -> Iterator[str]:
    """Yield the entries of all values, the last one first, without splitting the thousands before it."""
    for value in reversed(tuple(values)):
        rest, comma = value, ","
        while comma:
            rest, comma, entry = rest.rpartition(",")
            yield entry


def is_trusted(endpoint: str, proxies: Sequence[Network]) -> bool:
    """Return whether host:port is a trusted proxy."""
    parsed = _parse(endpoint) if proxies else None
    return parsed is not None and any(parsed[0] in network for network in proxies)


def _normalised(entry: str) -> str | None:
    """Return an entry as host:port, or None if it is not an address."""
    parsed = _parse(entry)
    if parsed is None:
        return None
    address, port = parsed
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _parse(text: str) -> tuple[IPv4Address | IPv6Address, int] | None:
    """Return the address and port of an entry, or None if it is not an address.

    An IPv6 address with a zone is none: it has no meaning on another machine.
    """
    written = _ENDPOINT.fullmatch(text)
    if written is None:
        return None
    bracketed, port = written[1], int(written[3] or 0)
    try:
        address = ip_address(bracketed or written[2] or written[4])
    except ValueError:
        return None
    if port > 65535 or (bracketed and address.version == 4):
        return None
    return getattr(address, "ipv4_mapped", None) or address, port
