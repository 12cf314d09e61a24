"""Brute force: how often somebody may be wrong, and how long they then have to wait. Proves nobody itself.

Failures are counted per account, per account and address, per client and per address. The first few are
free; then one attempt at a time is let through, and each failure doubles the wait until the next, up to a
lockout that expires by itself. A success forgets the failures of the account. Unknown accounts are counted
as known ones, so that the answer does not tell which exist.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final, Protocol

from identity_service.domain.errors import CredentialRefusedError, TooManyAttemptsError

_LONGEST_EXPONENT: Final = 20
_IPV6_SITE_BITS: Final = 64
_PEERS: Final = 1024


class FailureCounter(Protocol):
    """Counts for a while. Raises StoreUnavailableError where the counts lie elsewhere."""

    def count(self, key: str) -> int:
        """How many there are now."""

    def add(self, key: str, window: timedelta) -> None:
        """One more; the first begins the window after which all are forgotten."""

    def claim(self, key: str, pause: timedelta) -> timedelta:
        """Zero for the first caller, who holds the key for `pause`; for all others how long that lasts."""

    def forget(self, *keys: str) -> None:
        """Begin again at 0, and let go of what is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptPolicy:
    """How much patience there is with one kind of key."""

    free: int
    """Failures before the first wait."""
    lockout: timedelta = timedelta(minutes=15)
    """The longest wait."""
    window: timedelta = timedelta(hours=1)
    """Failures are forgotten so long after the first one."""
    forgive: bool = True
    """Whether a success forgets the failures."""

    def pause_after(self, failures: int) -> timedelta:
        """How long the next attempt has to wait: 1 s, 2 s, 4 s … after the free ones."""
        if failures < self.free:
            return timedelta(0)
        return min(timedelta(seconds=2 ** min(failures - self.free, _LONGEST_EXPONENT)), self.lockout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One key that an attempt counts for."""

    key: str
    policy: AttemptPolicy
    counter: FailureCounter


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptPolicies:
    """Patience with each kind of key."""

    account: AttemptPolicy = AttemptPolicy(free=50)
    """With one account from wherever: higher, so that strangers do not lock out its owner soon."""
    account_at_peer: AttemptPolicy = AttemptPolicy(free=5)
    client: AttemptPolicy = AttemptPolicy(free=20)
    peer: AttemptPolicy = AttemptPolicy(free=100, forgive=False)
    """With one address, whoever it tries to be. `free` 0 = addresses are not counted, for a service behind a
    proxy that hides them."""


class AttemptGuard:
    """Lets attempts through, or says how long to wait."""

    def __init__(self, shared: FailureCounter, local: FailureCounter, policies: AttemptPolicies) -> None:
        """
        Args:
            shared: counts for all processes; for passwords, where checking takes long anyway.
            local: counts in this process; for credentials of clients, which are checked from memory.
            policies: how much patience there is.
        """
        self._shared = shared
        self._local = local
        self._policies = policies
        # One connection brings many calls, and to read an address takes longer than to count for it.
        self._address_of = lru_cache(_PEERS)(address_of)

    def of_user(self, username: str, peer: str) -> AbstractContextManager[None]:
        """Around a check of a password. Raises TooManyAttemptsError before it, or what the block raises.

        Args:
            username: normalised; of an account that exists or not.
            peer: host:port of the caller, or empty.
        """
        account, address, policies = _hidden(username), self._address_of(peer), self._policies
        return _attempt(
            [
                *self._of_peer(address, self._shared),
                Watched(
                    key=f"account/{account}/{address}",
                    policy=policies.account_at_peer,
                    counter=self._shared,
                ),
                Watched(key=f"account/{account}", policy=policies.account, counter=self._shared),
            ]
        )

    def of_client(self, client_id: str, peer: str) -> AbstractContextManager[None]:
        """Around a check of a client's credential. `client_id` is empty where nobody claims to be one."""
        address = self._address_of(peer)
        watched = [*self._of_peer(address, self._local)]
        if client_id:
            key = f"client/{_hidden(client_id)}/{address}"
            watched.append(Watched(key=key, policy=self._policies.client, counter=self._local))
        return _attempt(watched)

    def _of_peer(self, address: str, counter: FailureCounter) -> Sequence[Watched]:
        policy = self._policies.peer
        if not address or policy.free == 0:
            return ()
        return (Watched(key=f"peer/{address}", policy=policy, counter=counter),)


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


@contextmanager
def _attempt(watched: Sequence[Watched]) -> Iterator[None]:
    """The narrowest key first: whoever has to wait there must not use up the turn of others at the wider."""
    failures = [one.counter.count(one.key) for one in watched]
    for one, count in zip(watched, failures, strict=True):
        _let_through(one, count)
    try:
        yield
    except CredentialRefusedError:
        for one in watched:
            one.counter.add(one.key, one.policy.window)
        raise
    for one, count in zip(watched, failures, strict=True):
        if count and one.policy.forgive:
            one.counter.forget(one.key, _pause(one))


def _let_through(one: Watched, failures: int) -> None:
    """One attempt for each pause: of any number at once, the first."""
    pause = one.policy.pause_after(failures)
    if not pause:
        return
    left = one.counter.claim(_pause(one), pause)
    if left:
        raise TooManyAttemptsError(
            "too many failed attempts; wait before the next one", retry_after=left.total_seconds()
        )


def _pause(one: Watched) -> str:
    return f"{one.key}/pause"


def _hidden(name: str) -> str:
    """A name that nobody has may be a password in the wrong field: it is not kept."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
