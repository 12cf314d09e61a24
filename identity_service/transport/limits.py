"""Limits on the calls and streams that clients hold open, per address and in total, for both engines."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from identity_service.domain.errors import IdentityError, RequestTimeoutError, ServerBusyError
from identity_service.domain.ports import EventLog
from identity_service.transport.quotas import UNIX, AddressBusyError, Peers, Quota
from identity_service.transport.refusals import RefusalTurns, Strikes

if TYPE_CHECKING:
    from identity_service.transport.forwarded_certificates import ForwardedCertificates

_LOG_INTERVAL: Final = 10.0
"""Seconds between two log lines about the same limit."""
_MAX_PEERS_COUNTED: Final = 1000
"""The largest number of distinct addresses that one such line counts."""
RECEIVE_GRACE: Final = 0.2
"""The number of seconds within which a request must arrive if its address has too many unfinished requests.

A well-behaved client that sends 100 calls at once exceeds the limit, too: the server sees the headers of all
calls before it has processed their messages. The messages of such a client arrive within milliseconds.
"""
_WITHOUT_QUOTA: Final = ("max_connections", "request_timeout", "send_timeout", "watch_queue")
"""The settings of limits that have no counter here.

The HTTP listener counts its connections; the other limits end slow calls and streams instead of counting.
"""


class Streams(Enum):
    """The kinds of streams whose number is limited; docs/limits.md names the settings."""

    WATCH = auto()
    HEALTH = auto()
    REFLECTION = auto()
    AUDIT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The largest number of things of one kind that may be open."""

    total: int
    """The bound for all addresses together."""
    per_peer: int
    """The bound for one address that is not exempt; for IPv6, for one /64 network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """The settings of docs/limits.md that both engines enforce."""

    calls: Bound = Bound(total=4096, per_peer=512)
    receives: Bound = Bound(total=1024, per_peer=32)
    watchers: Bound = Bound(total=2000, per_peer=256)
    health_watchers: Bound = Bound(total=1000, per_peer=32)
    reflection_streams: Bound = Bound(total=64, per_peer=8)
    audit_tails: Bound = Bound(total=8, per_peer=8)
    exempt: Sequence[str] = ("127.0.0.1", "::1", UNIX)
    """The networks (CIDR), or `unix`, whose connections count toward the totals only."""
    proxies: Sequence[str] = ()
    """The networks (CIDR) of trusted proxies: their calls count for the clients that they forward."""
    request_timeout: timedelta = timedelta(seconds=10)
    """The time that a client has to send its request."""
    send_timeout: timedelta = timedelta(seconds=5)
    """The time that a client has to read an answer, or one message of a stream."""


@dataclass(slots=True)
class _UnloggedHits:
    """The number of times that a limit has taken effect since its last log line."""

    times: int = 0
    peers: set[str] = field(default_factory=set)
    """The distinct addresses that were affected, at most 1,000; the empty one stands for all exempt ones."""


class Limits:
    """All the limits of one process and their counters."""

    def __init__(
        self,
        config: LimitsConfig,
        event_log: EventLog,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        forwarded: "ForwardedCertificates | None" = None,
    ) -> None:
        """Create the counters. Raises ValueError if an entry of `exempt` is not a network.

        `forwarded` reads the certificates that trusted proxies forward; None = they are ignored.
        """
        self.config = config
        self.peers = Peers(config.exempt, config.proxies, forwarded)
        self._event_log = event_log
        self.monotonic = monotonic
        self.receive_grace = RECEIVE_GRACE
        """The value of `RECEIVE_GRACE`, unless a test sets another one."""
        self.turns = RefusalTurns(config.calls.total, monotonic)
        self.strikes = Strikes(monotonic)
        self._lock = threading.Lock()
        self._logged_at: dict[str, float] = {}
        self._unlogged: dict[str, _UnloggedHits] = {}
        self._counts = dict.fromkeys(_WITHOUT_QUOTA, 0)
        self.calls = self._quota("max_calls", "open calls", config.calls)
        self.receives = self._quota(
            "max_receives",
            "unfinished requests",
            config.receives,
            lambda address: not self.strikes.has(address),
        )
        """The counter of calls whose request is to arrive; beyond the bound of an address, within
        `receive_grace`."""
        self.streams: Mapping[Streams, Quota] = {
            Streams.WATCH: self._quota("max_watchers", "watchers", config.watchers),
            Streams.HEALTH: self._quota("max_health_watchers", "watchers of health", config.health_watchers),
            Streams.REFLECTION: self._quota(
                "max_reflection_streams", "streams of reflection", config.reflection_streams
            ),
            Streams.AUDIT: self._quota("max_audit_tails", "calls of TailAuditEvents", config.audit_tails),
        }
        """The counters of streams, from the time that a stream is admitted to its end."""

    def late_request(self, address: str, *, beyond: bool) -> IdentityError:
        """Record that a request has not arrived in time; return the error for its client.

        If it was `beyond` the bound of its address, it had `receive_grace` only, and for 5 s further calls of
        this address get no such grace.
        """
        if beyond:
            self.strikes.add(address)
            return self.receives.refuse_beyond(address)
        self.hit("request_timeout", address)
        return RequestTimeoutError(self.config.request_timeout.total_seconds())

    def seconds_until_refused(self, error: ServerBusyError) -> float:
        """Return for how many seconds a new call waits until it is refused with this error; 0.0 = at once.

        Only a call beyond a bound of its address waits. If the process is full, the client may have kept to
        its bounds, so it learns at once that it should use another instance.
        """
        return self.turns.take() if isinstance(error, AddressBusyError) else 0.0

    @property
    def quotas(self) -> Sequence[Quota]:
        """Return all counters, for metrics."""
        return (self.calls, self.receives, *self.streams.values())

    @property
    def refusals(self) -> Mapping[str, int]:
        """Return how often each limit, named by its setting, has taken effect since the process started."""
        with self._lock:
            return dict(self._counts)

    def hit(self, setting: str, address: str) -> None:
        """Count that a limit took effect, and log it unless the same limit was logged within the last 10 s.

        The log line names the address if only one address was affected since the previous line.
        """
        now = self.monotonic()
        with self._lock:
            self._counts[setting] = self._counts.get(setting, 0) + 1
            unlogged = self._unlogged.setdefault(setting, _UnloggedHits())
            unlogged.times += 1
            if len(unlogged.peers) < _MAX_PEERS_COUNTED:
                unlogged.peers.add(address)
            if now - self._logged_at.get(setting, -_LOG_INTERVAL) < _LOG_INTERVAL:
                return
            self._logged_at[setting] = now
            del self._unlogged[setting]
        peers = len(unlogged.peers)
        named = {"peer": address} if peers == 1 else {}
        self._event_log.record("limit_reached", setting=setting, times=unlogged.times, peers=peers, **named)

    def _quota(
        self, name: str, what: str, bound: Bound, briefly: Callable[[str], bool] | None = None
    ) -> Quota:
        self._counts[name] = 0
        if bound.per_peer < bound.total:  # else the total bound is always reached first
            self._counts[f"{name}_per_peer"] = 0
        return Quota(name, what, self.hit, briefly, total=bound.total, per_peer=bound.per_peer)
