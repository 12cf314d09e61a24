"""Protection against brute force: limits how often a caller may try a wrong credential.

Failures are counted per username, per username and address, per client and address, and per address. The
first few are free. After those, one attempt at a time is allowed, and each failure doubles the pause before
the next one, up to a lockout that expires by itself. A success clears the earlier failures of the username.
Unknown usernames are counted like known ones, so that the answer does not tell which exist.

An attempt claims one of the free failures before the credential is checked, so that concurrent attempts
cannot exceed the number of free failures. If attempts in progress hold all claims, a further attempt waits:
attempts that succeed return their claims.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from types import TracebackType
from typing import Final

from identity_service.domain.attempts import (
    AllClaimsInUse,
    AttemptCounter,
    AttemptPolicies,
    Claim,
    Limit,
    LocalAttemptCounter,
    Paused,
    Verdict,
)
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import ServerBusyError, StoreUnavailableError, TooManyAttemptsError

_IPV6_SITE_BITS: Final = 64
_PEERS: Final = 1024
"""The number of peers, and of clients at a peer, whose parsed address and limits are cached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitPolicy:
    """The rule by which attempts wait until other attempts return their claims."""

    places: int = 16
    """The number of attempts that may wait at once. Each blocks a thread; further ones are refused at once
    (SERVER_BUSY)."""
    patience: timedelta = timedelta(seconds=30)
    """The time after which a waiting attempt is refused (SERVER_BUSY).

    20 concurrent sign-ins of one user took 8 s with argon2 at its defaults on two busy cores.
    """
    poll: timedelta = timedelta(milliseconds=50)
    """The time after which a waiting attempt tries again. Only claims returned in this process wake it
    earlier."""


class AttemptGuard:
    """A guard that allows an attempt at a credential, or refuses it with the time until the next one."""

    def __init__(
        self,
        shared: AttemptCounter,
        local: LocalAttemptCounter,
        policies: AttemptPolicies,
        monotonic: Callable[[], float],
        waits: WaitPolicy | None = None,
    ) -> None:
        """Guard with these counters.

        Args:
            shared: counts for all processes; used for passwords, which are slow to check anyway.
            local: counts in this process; used for client credentials, which are checked from memory.
            policies: the number of failures that each kind of key is allowed.
            monotonic: returns seconds on a clock that is never set.
            waits: the rule for attempts that wait for the claims of others; None = the defaults.
        """
        self._shared = shared
        self._local = local
        self._policies = policies
        self._queue = _ClaimQueue(monotonic, waits or WaitPolicy())
        # Cached, since one connection makes many calls, and parsing an address takes longer than counting.
        self._address_of = lru_cache(_PEERS)(address_of)
        self._known_limits = lru_cache(_PEERS)(self._limits_of)
        """The limits of clients that exist; a client that a caller only claims to be takes no memory."""

    @property
    def waiting(self) -> int:
        """The number of attempts that are waiting for a claim."""
        return self._queue.waiting

    def of_user(self, username: str, peer: str) -> AbstractContextManager[None]:
        """Return a context manager to check a password in.

        Entering it raises TooManyAttemptsError, ServerBusyError or StoreUnavailableError if the attempt is
        refused. Leaving it with CredentialRefusedError counts a failure.

        Args:
            username: normalised; the user need not exist.
            peer: host:port of the caller, or empty.
        """
        hashed, address, policies = _hashed(username), self._address_of(peer), self._policies
        limits = (
            *self._of_peer(address),
            Limit(f"username/{hashed}/{address}", policies.username_at_peer),
            Limit(f"username/{hashed}", policies.username),
        )
        return _Attempt(self._queue, self._shared, limits)

    def of_client(self, client_id: str, peer: str) -> AbstractContextManager[None]:
        """Return a context manager to check a client's credential in; it raises and counts as `of_user`'s.

        `client_id` is empty if the credential does not name a client before it is checked.
        """
        return _Attempt(self._queue, self._local, self._limits_of(client_id, peer))

    def is_clear_for(self, client_id: str, peer: str) -> bool:
        """Return whether neither this client, which exists, nor this address has failures or attempts.

        Then a right credential may be accepted without `of_client`, which would count nothing either.
        """
        return self._local.is_clear(self._known_limits(client_id, peer))

    def _limits_of(self, client_id: str, peer: str) -> tuple[Limit, ...]:
        address = self._address_of(peer)
        limits = self._of_peer(address)
        if client_id:
            limits = (*limits, Limit(f"client/{_hashed(client_id)}/{address}", self._policies.client))
        return limits

    def _of_peer(self, address: str) -> tuple[Limit, ...]:
        policy = self._policies.peer
        if not address or policy.free == 0:
            return ()
        return (Limit(f"peer/{address}", policy),)


def address_of(peer: str) -> str:
    """Return the address of a `host:port` to count failures for, or "" if it has no IP address.

    For IPv6 it is the /64 network, since one host may use all addresses of it.
    """
    host = peer.rpartition(":")[0].strip("[]")
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, IPv6Address):
        site = int(address) >> (128 - _IPV6_SITE_BITS) << (128 - _IPV6_SITE_BITS)
        return f"{IPv6Address(site)}/{_IPV6_SITE_BITS}"
    return str(address)


class _Attempt:
    """A context manager that claims an attempt when it is entered, and settles it when it is left."""

    __slots__ = ("_claim", "_counter", "_limits", "_queue")

    def __init__(self, queue: "_ClaimQueue", counter: AttemptCounter, limits: Sequence[Limit]) -> None:
        self._queue = queue
        self._counter = counter
        self._limits = limits
        self._claim: Claim | None = None

    def __enter__(self) -> None:
        if self._limits:
            self._claim = self._queue.claim(self._counter, self._limits)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._claim is None:
            return
        if kind is None:
            self._queue.settle(self._claim, Verdict.RIGHT)
        elif issubclass(kind, CredentialRefusedError):
            self._queue.settle(self._claim, Verdict.WRONG)
        else:
            with suppress(StoreUnavailableError):  # the claim expires by itself; `error` is more useful
                self._queue.settle(self._claim, Verdict.NONE)


class _ClaimQueue:
    """A queue in which a bounded number of callers may wait until a claim is free."""

    def __init__(self, monotonic: Callable[[], float], policy: WaitPolicy) -> None:
        self._monotonic = monotonic
        self._policy = policy
        self._settled = threading.Condition()
        self.waiting = 0
        """The number of callers that are waiting for a claim."""
        self._settlements = 0

    def claim(self, counter: AttemptCounter, limits: Sequence[Limit]) -> Claim:
        """Claim an attempt, and wait for one if attempts in progress hold all claims.

        Raises:
            TooManyAttemptsError: the pause after earlier failures is not over.
            ServerBusyError: too many callers wait, or this one has waited too long.
            StoreUnavailableError: the shared counts cannot be reached.
        """
        found = counter.claim(limits)
        if isinstance(found, AllClaimsInUse):
            found = self._wait(counter, limits)
        if isinstance(found, Paused):
            raise TooManyAttemptsError(
                "too many failed attempts; wait before the next one",
                retry_after=max(1.0, found.left.total_seconds()),
            )
        return found

    def settle(self, claim: Claim, verdict: Verdict) -> None:
        """Settle a claim and wake the callers that wait for one. Raises StoreUnavailableError."""
        try:
            claim.settle(verdict)
        finally:
            # A caller that begins to wait only now has not asked the counter yet, and so sees the settlement.
            if self.waiting:
                with self._settled:
                    self._settlements += 1
                    self._settled.notify_all()

    def _wait(self, counter: AttemptCounter, limits: Sequence[Limit]) -> Claim | Paused:
        with self._settled:
            if self.waiting >= self._policy.places:
                raise _busy()
            self.waiting += 1
        try:
            deadline = self._monotonic() + self._policy.patience.total_seconds()
            while True:
                seen = self._settlements
                found = counter.claim(limits)
                if not isinstance(found, AllClaimsInUse):
                    return found
                if self._monotonic() >= deadline:
                    raise _busy()
                with self._settled:
                    if self._settlements == seen:
                        self._settled.wait(self._policy.poll.total_seconds())
        finally:
            with self._settled:
                self.waiting -= 1


def _busy() -> ServerBusyError:
    return ServerBusyError("too many attempts with this username or from this address at once; try again")


def _hashed(name: str) -> str:
    """Hash a name that is counted, since a password typed into the wrong field must not be stored."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
