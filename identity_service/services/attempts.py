"""Brute force: how often a credential may be wrong, and how long the next attempt then has to wait.

Failures are counted per account, per account and address, per client and address, and per address. The first
few are free; then one attempt at a time is let through, and each failure doubles the pause until the next, up
to a lockout that expires by itself. A success forgets the failures of the account that came before it.
Unknown accounts are counted as known ones, so that the answer does not tell which exist.

An attempt claims one of the free failures before the credential is checked, so that of any number of attempts
at once no more are checked than are free. An attempt that finds all of them claimed by others in progress
waits for a moment: if those were right, their claims come back.
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
    AttemptCounter,
    AttemptPolicies,
    Claim,
    Limit,
    Occupied,
    Paused,
    Verdict,
)
from identity_service.domain.errors import (
    CredentialRefusedError,
    ServerBusyError,
    StoreUnavailableError,
    TooManyAttemptsError,
)

_IPV6_SITE_BITS: Final = 64
_PEERS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitPolicy:
    """How attempts wait for claims of others to come back."""

    places: int = 16
    """How many may wait at once. Each holds a thread; any more are refused at once (SERVER_BUSY)."""
    patience: timedelta = timedelta(seconds=30)
    """An attempt that has waited for so long is refused (SERVER_BUSY).

    20 sign-ins at once by one account took 8 s with argon2 at its defaults on two busy cores.
    """
    poll: timedelta = timedelta(milliseconds=50)
    """How often a waiting attempt asks again. Only this process says at once that a claim came back."""


class AttemptGuard:
    """Lets attempts through, or says how long to wait."""

    def __init__(
        self,
        shared: AttemptCounter,
        local: AttemptCounter,
        policies: AttemptPolicies,
        monotonic: Callable[[], float],
        waits: WaitPolicy | None = None,
    ) -> None:
        """Guard with these counters.

        Args:
            shared: counts for all processes; for passwords, where checking takes long anyway.
            local: counts in this process; for credentials of clients, which are checked from memory.
            policies: how many failures each kind of key is allowed.
            monotonic: seconds on a clock that is never set.
            waits: how attempts wait for claims of others; None = the defaults.
        """
        self._shared = shared
        self._local = local
        self._policies = policies
        self._queue = _ClaimQueue(monotonic, waits or WaitPolicy())
        # One connection brings many calls, and to read an address takes longer than to count for it.
        self._address_of = lru_cache(_PEERS)(address_of)

    @property
    def waiting(self) -> int:
        """How many attempts wait for a claim to come back."""
        return self._queue.waiting

    def of_user(self, username: str, peer: str) -> AbstractContextManager[None]:
        """Return what goes around a check of a password.

        To enter it raises TooManyAttemptsError, ServerBusyError or StoreUnavailableError. To leave it with
        CredentialRefusedError counts a failure.

        Args:
            username: normalised; of an account that exists or not.
            peer: host:port of the caller, or empty.
        """
        account, address, policies = _hashed(username), self._address_of(peer), self._policies
        limits = (
            *self._of_peer(address),
            Limit(f"account/{account}/{address}", policies.account_at_peer),
            Limit(f"account/{account}", policies.account),
        )
        return _Attempt(self._queue, self._shared, limits)

    def of_client(self, client_id: str, peer: str) -> AbstractContextManager[None]:
        """Return what goes around a check of a client's credential, as `of_user` does.

        `client_id` is empty if the credential does not name a client before it is checked.
        """
        address = self._address_of(peer)
        limits = self._of_peer(address)
        if client_id:
            limits = (*limits, Limit(f"client/{_hashed(client_id)}/{address}", self._policies.client))
        return _Attempt(self._queue, self._local, limits)

    def _of_peer(self, address: str) -> tuple[Limit, ...]:
        policy = self._policies.peer
        if not address or policy.free == 0:
            return ()
        return (Limit(f"peer/{address}", policy),)


def address_of(peer: str) -> str:
    """The address that failures are counted for: of IPv6 the site, since a host has many there."""
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
    """Claims an attempt when it is entered, and settles it when it is left."""

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
            with suppress(StoreUnavailableError):  # the claim ends by itself, and `error` says more
                self._queue.settle(self._claim, Verdict.NONE)


class _ClaimQueue:
    """Claims attempts; a bounded number of callers may wait for a claim to come back."""

    def __init__(self, monotonic: Callable[[], float], policy: WaitPolicy) -> None:
        self._monotonic = monotonic
        self._policy = policy
        self._settled = threading.Condition()
        self._waiting = 0
        self._settlements = 0

    @property
    def waiting(self) -> int:
        return self._waiting

    def claim(self, counter: AttemptCounter, limits: Sequence[Limit]) -> Claim:
        """Raises TooManyAttemptsError, ServerBusyError, StoreUnavailableError."""
        found = counter.claim(limits)
        if isinstance(found, Occupied):
            found = self._wait(counter, limits)
        if isinstance(found, Paused):
            raise TooManyAttemptsError(
                "too many failed attempts; wait before the next one",
                retry_after=max(1.0, found.left.total_seconds()),
            )
        return found

    def settle(self, claim: Claim, verdict: Verdict) -> None:
        try:
            claim.settle(verdict)
        finally:
            # An attempt that begins to wait only now has yet to ask the counter, and finds what was settled.
            if self._waiting:
                with self._settled:
                    self._settlements += 1
                    self._settled.notify_all()

    def _wait(self, counter: AttemptCounter, limits: Sequence[Limit]) -> Claim | Paused:
        with self._settled:
            if self._waiting >= self._policy.places:
                raise _busy()
            self._waiting += 1
        try:
            deadline = self._monotonic() + self._policy.patience.total_seconds()
            while True:
                seen = self._settlements
                found = counter.claim(limits)
                if not isinstance(found, Occupied):
                    return found
                if self._monotonic() >= deadline:
                    raise _busy()
                with self._settled:
                    if self._settlements == seen:
                        self._settled.wait(self._policy.poll.total_seconds())
        finally:
            with self._settled:
                self._waiting -= 1


def _busy() -> ServerBusyError:
    return ServerBusyError("too many attempts with this account or from this address at once; try again")


def _hashed(name: str) -> str:
    """A name that nobody has may be a password in the wrong field: it is not kept."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
