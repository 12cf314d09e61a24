"""The counters of what clients hold open, and the address under which each call and connection counts.

If a trusted proxy forwards a call, the client is the one that the proxy names: its address, and its
certificate if it has one. `limits.py` has a counter for each limit.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote

from identity_service.domain.errors import ServerBusyError
from identity_service.domain.forwarded import FORWARDED_FOR, Network, forwarded_client, is_trusted
from identity_service.domain.origin import PeerCertificate
from identity_service.services.attempts import address_of

if TYPE_CHECKING:
    from identity_service.transport.forwarded_certificates import ForwardedCertificates

UNIX: Final = "unix"
"""The entry of `limits_exempt` that stands for connections through Unix sockets."""
Metadata: TypeAlias = Callable[[], Iterable[tuple[str, str | bytes]]]
"""A function that returns the metadata of a call."""
_CACHED_ADDRESSES: Final = 4096
_PEER_KINDS: Final = ("ipv4:", "ipv6:")
_PEER_KIND: Final = "ipvN:"


class AddressBusyError(ServerBusyError):
    """The client's address has reached a bound of its own, while the process could take more calls."""


class Quota:
    """A counter of open calls or streams of one kind, which refuses those beyond the bound. Thread-safe."""

    def __init__(
        self,
        name: str,
        what: str,
        refused: Callable[[str, str], None],
        briefly: Callable[[str], bool] | None = None,
        *,
        total: int,
        per_peer: int,
    ) -> None:
        """Create a counter at zero.

        Args:
            name: the setting that holds the total bound.
            what: the plural noun for the counted things, for the message to the client.
            refused: called with the name of the setting that refused, and the address.
            briefly: returns whether a thing of an address counts even beyond the bound of the address, since
                its owner ends it soon. Ignored if half of the total bound is open: otherwise two addresses
                could lock out all others.
            total: the largest number that may be open.
            per_peer: the same for one address that is not exempt; for IPv6, for one /64 network.
        """
        self.name = name
        self._what = what
        self._total = total
        self._per_peer = per_peer
        self._refused = refused
        self._briefly = briefly
        self._lock = threading.Lock()
        self._open = 0
        self._by_address: dict[str, int] = {}

    @property
    def open(self) -> int:
        """Return the number that is open now."""
        return self._open

    @property
    def addresses(self) -> int:
        """Return the number of addresses, without exempt ones, that hold something open now."""
        return len(self._by_address)

    def acquire(self, address: str) -> bool:
        """Count one more call or stream; return whether this exceeds the bound of its address.

        `address` is the result of `Peers.address_of`; an empty one counts toward the total only. Raises
        ServerBusyError if the total bound is exceeded, and AddressBusyError if only that of the address is,
        and `briefly` does not allow it.
        """
        total, per_peer, briefly = self._total, self._per_peer, self._briefly
        with self._lock:
            held = self._by_address.get(address, 0)
            beyond = address != "" and held >= per_peer
            full = self._open >= total
            if not full and (
                not beyond or (briefly is not None and self._open < total // 2 and briefly(address))
            ):
                self._open += 1
                if address:
                    self._by_address[address] = held + 1
                return beyond
        if not full:
            raise self.refuse_beyond(address)
        self._refused(self.name, address)
        raise ServerBusyError(self._text(total, "on this process"))

    def refuse_beyond(self, address: str) -> AddressBusyError:
        """Record that a call beyond the bound of its address is refused; return the error for its client."""
        self._refused(f"{self.name}_per_peer", address)
        return AddressBusyError(self._text(self._per_peer, "from your address"))

    def release(self, address: str) -> None:
        """Count one call or stream less. Call it once for each `acquire` that did not raise."""
        with self._lock:
            self._open -= 1
            if address:
                left = self._by_address[address] - 1
                if left:
                    self._by_address[address] = left
                else:
                    del self._by_address[address]

    def _text(self, bound: int, where: str) -> str:
        return f"too many {self._what} {where} ({bound:,}); retry as RetryInfo says, or use another instance"


class Peers:
    """A map from each connection and each call to the address under which it counts."""

    def __init__(
        self,
        exempt: Sequence[str],
        proxies: Sequence[str] = (),
        forwarded: "ForwardedCertificates | None" = None,
    ) -> None:
        """Parse the networks that are exempt, and those of trusted proxies.

        `forwarded` reads the certificates that trusted proxies forward; None = they are ignored. Raises
        ValueError if an entry is not a network; an exempt one may be `unix`.
        """
        self._forwarded = forwarded
        self._networks = tuple(network_of(text) for text in exempt if text != UNIX)
        self._unix = UNIX in exempt
        self._proxies = tuple(network_of(text) for text in proxies)
        self.address_of: Callable[[str], str] = lru_cache(_CACHED_ADDRESSES)(self._address_of)
        """The function that returns the address under which a peer counts; empty if the peer is exempt.

        The peer is given as gRPC writes it, such as `ipv4:10.0.0.7:5000`.
        """

    def connection_address_of(self, peer: str) -> str:
        """Return the address under which a connection counts; empty if it is exempt or of a trusted proxy."""
        return "" if self._is_proxy(peer) else self.address_of(peer)

    def client_of(self, peer: str, metadata: Metadata) -> str | None:
        """Return host:port of the client for which a trusted proxy forwards a call.

        Returns None if the peer itself is the client, and the proxy if the client is not known; see
        `domain.forwarded`.

        Args:
            peer: the peer of the connection as gRPC writes it.
            metadata: returns the metadata of the call; it is called only if trusted proxies are configured.
        """
        if not self._proxies or not (place := endpoint_of(peer)):
            return None
        # A value that is not text counts as empty, which is not an address.
        sent = (value for key, value in metadata() if key == FORWARDED_FOR)
        values = (value if isinstance(value, str) else "" for value in sent)
        return forwarded_client(place, values, self._proxies)

    def address_of_call(self, peer: str, metadata: Metadata) -> str:
        """Return the address under which a call counts; empty if it is exempt.

        A forwarded client is never exempt, nor is a proxy that forwards what is not an address. The
        arguments are those of `client_of`.
        """
        return self.address_of_client(peer, self.client_of(peer, metadata))

    def address_of_client(self, peer: str, client: str | None) -> str:
        """Return what `address_of_call` returns; `client` is the result of `client_of` for this call."""
        return self.address_of(peer) if client is None else address_of(client)

    def certificate_of(
        self, peer: str, metadata: Metadata, own: Callable[[], PeerCertificate | None]
    ) -> PeerCertificate | None:
        """Return the client certificate of a call; None if there is none.

        On a connection from a trusted proxy, that is the forwarded one alone: the certificate of the
        connection is the proxy's, and would prove each of its clients.

        Args:
            peer: the peer of the connection as gRPC writes it.
            metadata: returns the metadata of the call.
            own: returns the certificate of the connection.
        """
        if self._forwarded is None or not self._is_proxy(peer):
            return own()
        return self._forwarded.find(metadata())

    def _is_proxy(self, peer: str) -> bool:
        return is_trusted(endpoint_of(peer), self._proxies)

    def _address_of(self, peer: str) -> str:
        host_and_port = endpoint_of(peer)
        if not host_and_port:
            return "" if self._unix else UNIX
        host = host_and_port.rpartition(":")[0].strip("[]")
        try:
            address = ip_address(host)
        except ValueError:
            return peer
        mapped = getattr(address, "ipv4_mapped", None) or address
        if any(mapped in network for network in self._networks):
            return ""
        return address_of(host_and_port)


def endpoint_of(peer: str) -> str:
    """Return host:port of a peer as gRPC writes it; empty if it has no network address."""
    return unquote(peer[len(_PEER_KIND) :]) if peer.startswith(_PEER_KINDS) else ""


def network_of(text: str) -> Network:
    """Parse an entry of `limits_exempt` or `trusted_proxies` as a network. Raises ValueError."""
    return ip_network(text.strip(), strict=False)
