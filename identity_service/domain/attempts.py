"""Limits on attempts to authenticate: the policies, and the counter of failures.

An attempt is *claimed* before the credential is checked, so that concurrent attempts cannot all be the last
free one, and *settled* with a verdict afterwards.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

CLAIM_LIFETIME: Final = timedelta(seconds=60)
"""A claim that was never settled, because its process was killed, is given back after this time.

A password in the default queue of 16 waits so long only if each hash takes 3.5 s. Its verdict still counts
then, but another attempt may have been checked in its place.
"""
MAX_COUNTERS: Final = 65_536
"""The number of counters with failures that are kept. Beyond that, the counter whose window ends first is
deleted.

Each counter stands for a wrong credential within the last window, so to displace a counter an attacker has to
have that many credentials checked, which helps little against any one username.
"""
_LONGEST_EXPONENT: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptPolicy:
    """The number of failures that one kind of key allows, and the pauses after further failures."""

    free: int
    """The number of failures before the first pause."""
    lockout: timedelta = timedelta(minutes=15)
    """The longest pause."""
    window: timedelta = timedelta(hours=1)
    """The time after the first failure from which the failures no longer count."""
    forgive: bool = True
    """True if a success clears the failures that were counted before its attempt was claimed."""

    def pause_after(self, failures: int) -> timedelta:
        """Return the pause after this many failures.

        It is 0 while free failures are left, and then 1 s, 2 s, 4 s, ..., at most `lockout`.
        """
        if failures < self.free:
            return timedelta(0)
        return min(timedelta(seconds=2 ** min(failures - self.free, _LONGEST_EXPONENT)), self.lockout)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptPolicies:
    """The policy for each kind of key."""

    username: AttemptPolicy = AttemptPolicy(free=50)
    """The policy for the failures of one username from all addresses. It allows many, so that an
    attacker cannot easily lock out the owner of the username."""
    username_at_peer: AttemptPolicy = AttemptPolicy(free=5)
    client: AttemptPolicy = AttemptPolicy(free=20)
    peer: AttemptPolicy = AttemptPolicy(free=100, forgive=False)
    """The policy for the failures from one address, for any username. `free` 0 = addresses are not counted,
    for a service behind a proxy that hides them."""


class Limit(NamedTuple):
    """A key that an attempt counts for, and its policy."""

    key: str
    policy: AttemptPolicy


class Verdict(StrEnum):
    """The result of an attempt."""

    RIGHT = "right"
    WRONG = "wrong"
    NONE = "none"
    """The credential was not checked: an error, a full queue, a cancelled call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """A refusal: the pause after earlier failures is not over."""

    left: timedelta


class AllClaimsInUse:
    """A refusal for now: attempts in progress hold all claims. A claim may soon be given back."""


_ALL_CLAIMS_IN_USE: Final = AllClaimsInUse()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claimed attempt: its credential may be checked now."""

    settle: Callable[[Verdict], None]
    """Ends the claim, in one atomic step for all of its limits; called once.

    RIGHT gives the claim back and, if the policy forgives, clears the failures from before the claim. WRONG
    turns the claim into a failure. NONE gives it back without effect. Raises StoreUnavailableError.
    """


class AttemptCounter(Protocol):
    """A counter of failures and of claims in progress, for each key.

    A key has `free` claims. Failures within the window use them up, and so do claims in progress. Once
    failures have used up all of them, one attempt at a time is let through, `AttemptPolicy.pause_after` after
    the last failure.
    """

    def claim(self, limits: Sequence[Limit]) -> Claim | Paused | AllClaimsInUse:
        """Claim an attempt under all of the limits, or under none of them, in one atomic step.

        If several limits refuse, the longest pause is returned; Paused takes precedence over
        AllClaimsInUse. Raises StoreUnavailableError if the counts are kept in a store that cannot be reached.
        """


class LocalAttemptCounter(AttemptCounter, Protocol):
    """An AttemptCounter that counts in the memory of this process."""

    def is_clear(self, limits: Sequence[Limit]) -> bool:
        """Return whether no key of these limits has a failure or a claim.

        Then an attempt that is right has no effect, and need not be claimed.
        """


@dataclass(slots=True)
class Counts:
    """The counts of an AttemptCounter for one key; times are seconds on its clock."""

    failed: int = 0
    """The number of failures ever; it only grows, so that a claim can tell which failures came before it."""
    forgiven: int = 0
    """The number of these failures that no longer count."""
    window_end: float = 0.0
    pause_end: float = 0.0
    claims: int = 0
    """The number of attempts in progress."""

    def failures_at(self, now: float) -> int:
        """Return how many failures count at the time `now`; clears them if the window has ended."""
        if self.window_end <= now:
            self.forgiven = self.failed
            self.pause_end = 0.0
        return self.failed - self.forgiven

    def judge(self, policy: AttemptPolicy, verdict: Verdict, failed_before: int, now: float) -> None:
        """Count the verdict of an attempt; `failed_before` = the value of `failed` when it was claimed."""
        failures = self.failures_at(now)
        if verdict is Verdict.WRONG:
            if not failures:
                self.window_end = now + policy.window.total_seconds()
            self.failed += 1
            self.pause_end = now + policy.pause_after(failures + 1).total_seconds()
        elif failures and verdict is Verdict.RIGHT and policy.forgive:
            self.forgiven = max(self.forgiven, min(self.failed, failed_before))
            self.pause_end = 0.0


def refusal(watched: Iterable[tuple[AttemptPolicy, Counts]], now: float) -> Paused | AllClaimsInUse | None:
    """Return why an attempt may not be claimed now under all of these policies, or None if it may."""
    left, occupied = 0.0, False
    for policy, counts in watched:
        failures = counts.failures_at(now)
        if failures < policy.free:
            occupied |= failures + counts.claims >= policy.free
        elif counts.pause_end > now:
            left = max(left, counts.pause_end - now)
        else:
            occupied |= counts.claims > 0
    if left:
        return Paused(left=timedelta(seconds=left))
    return _ALL_CLAIMS_IN_USE if occupied else None
