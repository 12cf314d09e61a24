"""Limits on what clients may hold open: per address and in all. One place for both engines."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import unquote

from identity_service.domain.errors import ServerBusyError
from identity_service.domain.ports import EventLog
from identity_service.grpc_api.policy import Streams
from identity_service.services.attempts import address_of

UNIX: Final = "unix"
"""Stands in `limits_exempt` for connections by Unix sockets."""
_ADDRESSES: Final = 4096
_SAID_EVERY: Final = 10.0
"""Seconds between two log lines about one limit."""
_PEERS_COUNTED: Final = 1000
"""Distinct addresses that one such line counts at most."""
RECEIVE_GRACE: Final = 0.2
"""Seconds that a call beyond the bound of its address has for its request to arrive whole.

A client that sends 100 calls at once has nothing unfinished by its own doing: their headers are here before
their requests have been processed. Such requests are here within milliseconds.
"""
_WITHOUT_QUOTA: Final = ("request_timeout", "send_timeout", "watch_queue")
"""Settings of limits that end calls and streams, and do not count what is open."""
_PEER_KIND: Final = "ipvN:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How many may be open."""

    total: int
    """In all."""
    per_peer: int
    """From one address that is not exempt; of IPv6, from one /64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """The settings of docs/limits.md that both engines keep."""

    calls: Bound = Bound(total=4096, per_peer=512)
    receives: Bound = Bound(total=1024, per_peer=32)
    watchers: Bound = Bound(total=2000, per_peer=256)
    health_watchers: Bound = Bound(total=1000, per_peer=32)
    reflection_streams: Bound = Bound(total=64, per_peer=8)
    audit_tails: Bound = Bound(total=8, per_peer=8)
    exempt: Sequence[str] = ("127.0.0.1", "::1", UNIX)
    """Networks (CIDR) whose addresses count in all, and not each for itself."""
    request_timeout: timedelta = timedelta(seconds=10)
    """How long a client may take to send its request."""
    send_timeout: timedelta = timedelta(seconds=5)
    """How long a client may take to read an answer, or one message of a stream."""


class Peers:
    """Says which address a connection counts for."""

    def __init__(self, exempt: Sequence[str]) -> None:
        """Raises ValueError if an entry is neither a network nor `unix`."""
        self._networks = tuple(network_of(text) for text in exempt if text != UNIX)
        self._unix = UNIX in exempt
        self.address_of: Callable[[str], str] = lru_cache(_ADDRESSES)(self._address_of)
        """The address that a peer (as gRPC writes it, `ipv4:10.0.0.7:5000`) counts for; empty if exempt."""

    def _address_of(self, peer: str) -> str:
        if not peer.startswith(("ipv4:", "ipv6:")):
            return "" if self._unix else UNIX
        host_and_port = unquote(peer[len(_PEER_KIND) :])
        host = host_and_port.rpartition(":")[0].strip("[]")
        try:
            address = ip_address(host)
        except ValueError:
            return peer
        mapped = getattr(address, "ipv4_mapped", None) or address
        if any(mapped in network for network in self._networks):
            return ""
        return address_of(host_and_port)


def network_of(text: str) -> IPv4Network | IPv6Network:
    """The network that an entry of `limits_exempt` names. Raises ValueError."""
    return ip_network(text.strip(), strict=False)


class Quota:
    """Counts what is open of one kind, and refuses what goes beyond the bound. Any thread may use it."""

    def __init__(self, name: str, what: str, bound: Bound, refused: Callable[[str, str], None]) -> None:
        """
        Args:
            name: of the setting that holds the bound in all.
            what: is counted, in the plural, for the message to the client.
            bound: how many may be open.
            refused: called with the name of the setting that refused, and the address.
        """
        self.name = name
        self._what = what
        self._bound = bound
        self._refused = refused
        self._lock = threading.Lock()
        self._open = 0
        self._by_address: dict[str, int] = {}

    @property
    def open(self) -> int:
        """How many are open now."""
        return self._open

    @property
    def addresses(self) -> int:
        """How many addresses, not counting exempt ones, hold something open now."""
        return len(self._by_address)

    def take(self, address: str, *, briefly: bool = False) -> bool:
        """Count one more; return whether it is beyond the bound of its address.

        Raises ServerBusyError if it would be beyond the bound in all, or that of its address.

        Args:
            address: as `Peers.address_of` says; empty counts in all only.
            briefly: count it even beyond the bound of its address, as the caller ends it soon. Not if half of
                the bound in all is open: else two addresses could keep all others out.
        """
        total, per_peer = self._bound.total, self._bound.per_peer
        with self._lock:
            held = self._by_address.get(address, 0)
            beyond = address != "" and held >= per_peer
            if self._open >= total:
                setting, bound, where = self.name, total, "on this process"
            elif beyond and not (briefly and self._open < total // 2):
                setting, bound, where = f"{self.name}_per_peer", per_peer, "from your address"
            else:
                self._open += 1
                if address:
                    self._by_address[address] = held + 1
                return beyond
        raise self._refuse(setting, bound, where, address)

    def refuse_beyond(self, address: str) -> ServerBusyError:
        """Note that a call beyond the bound of its address is refused; return what to tell its client."""
        return self._refuse(f"{self.name}_per_peer", self._bound.per_peer, "from your address", address)

    def give_back(self, address: str) -> None:
        """Count one less: once for each `take` that did not raise."""
        with self._lock:
            self._open -= 1
            if address:
                left = self._by_address[address] - 1
                if left:
                    self._by_address[address] = left
                else:
                    del self._by_address[address]

    def _refuse(self, setting: str, bound: int, where: str, address: str) -> ServerBusyError:
        self._refused(setting, address)
        return ServerBusyError(
            f"too many {self._what} {where} ({bound:,}); retry as RetryInfo says, or use another instance"
        )


@dataclass(slots=True)
class _Unsaid:
    """How often a limit has taken effect since its last log line."""

    times: int = 0
    peers: set[str] = field(default_factory=set)
    """Distinct addresses that it happened to, at most 1,000; the empty one stands for all that are exempt."""


class Limits:
    """All the quotas of one process."""

    def __init__(
        self, config: LimitsConfig, event_log: EventLog, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises ValueError if an entry of `exempt` is no network."""
        self.config = config
        self.peers = Peers(config.exempt)
        self._event_log = event_log
        self.monotonic = monotonic
        self.receive_grace = RECEIVE_GRACE
        """As `RECEIVE_GRACE`; tests set another."""
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}
        self._unsaid: dict[str, _Unsaid] = {}
        self._counts = dict.fromkeys(_WITHOUT_QUOTA, 0)
        self.calls = self._quota("max_calls", "open calls", config.calls)
        self.receives = self._quota("max_receives", "unfinished requests", config.receives)
        self.streams: Mapping[Streams, Quota] = {
            Streams.WATCH: self._quota("max_watchers", "watchers", config.watchers),
            Streams.HEALTH: self._quota("max_health_watchers", "watchers of health", config.health_watchers),
            Streams.REFLECTION: self._quota(
                "max_reflection_streams", "streams of reflection", config.reflection_streams
            ),
            Streams.AUDIT: self._quota("max_audit_tails", "calls of TailAuditEvents", config.audit_tails),
        }
        """What is counted from the time that a stream is admitted to its end."""

    @property
    def quotas(self) -> Sequence[Quota]:
        """All of them, for metrics."""
        return (self.calls, self.receives, *self.streams.values())

    @property
    def refusals(self) -> Mapping[str, int]:
        """How often each limit, named by its setting, has taken effect since the process began."""
        with self._lock:
            return dict(self._counts)

    def hit(self, setting: str, address: str) -> None:
        """Count that a limit took effect, and log it unless that was logged within the last 10 s.

        The line names the address if all that it counts happened to one.
        """
        now = self.monotonic()
        with self._lock:
            self._counts[setting] = self._counts.get(setting, 0) + 1
            unsaid = self._unsaid.setdefault(setting, _Unsaid())
            unsaid.times += 1
            if len(unsaid.peers) < _PEERS_COUNTED:
                unsaid.peers.add(address)
            if now - self._said.get(setting, -_SAID_EVERY) < _SAID_EVERY:
                return
            self._said[setting] = now
            del self._unsaid[setting]
        peers = len(unsaid.peers)
        named = {"peer": address} if peers == 1 else {}
        self._event_log.record("limit_reached", setting=setting, times=unsaid.times, peers=peers, **named)

    def _quota(self, name: str, what: str, bound: Bound) -> Quota:
        self._counts[name] = 0
        if bound.per_peer < bound.total:  # else one address is never refused before all are
            self._counts[f"{name}_per_peer"] = 0
        return Quota(name, what, bound, self.hit)
