"""Attempts at credentials: how many may be wrong, and what keeps count of them.

An attempt is *claimed* before the credential is checked, so that attempts at the same time cannot all be the
last free one, and *settled* with a verdict afterwards.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

CLAIM_LIFETIME: Final = timedelta(seconds=60)
"""A claim that was never settled, since its process was killed, is given back after this time.

A password in the default queue of 16 waits so long only if each takes 3.5 s to hash. Its verdict still counts
then, but another attempt may have been checked in its place.
"""
MAX_COUNTERS: Final = 65_536
"""How many counters with failures are kept. Beyond that, the counter whose window ends first is forgotten.

Each counter stands for a wrong credential within the last window, so to push one out a stranger has to have
that many checked, which says little about one account.
"""
_LONGEST_EXPONENT: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptPolicy:
    """How many failures one kind of key is allowed, and how long it then has to wait."""

    free: int
    """Failures before the first pause."""
    lockout: timedelta = timedelta(minutes=15)
    """The longest pause."""
    window: timedelta = timedelta(hours=1)
    """Failures are forgotten this long after the first one."""
    forgive: bool = True
    """Whether a success forgets the failures that were counted before it was claimed."""

    def pause_after(self, failures: int) -> timedelta:
        """Return the pause after so many failures: 1 s, 2 s, 4 s, ... once the free ones are used up."""
        if failures < self.free:
            return timedelta(0)
        return min(timedelta(seconds=2 ** min(failures - self.free, _LONGEST_EXPONENT)), self.lockout)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptPolicies:
    """The policy for each kind of key."""

    account: AttemptPolicy = AttemptPolicy(free=50)
    """One account from all addresses: higher, so that strangers do not lock out its owner soon."""
    account_at_peer: AttemptPolicy = AttemptPolicy(free=5)
    client: AttemptPolicy = AttemptPolicy(free=20)
    peer: AttemptPolicy = AttemptPolicy(free=100, forgive=False)
    """One address, whatever it names. `free` 0 = addresses are not counted, for a service behind a proxy that
    hides them."""


class Limit(NamedTuple):
    """One key that an attempt counts for, and its policy."""

    key: str
    policy: AttemptPolicy


class Verdict(StrEnum):
    """How an attempt ended."""

    RIGHT = "right"
    WRONG = "wrong"
    NONE = "none"
    """The credential was not judged: an error, a full queue, a cancelled call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """The attempt may not be made: the pause after earlier failures is not over."""

    left: timedelta


class Occupied:
    """The attempt may not be made yet: attempts in progress hold all claims. One may come back soon."""


_OCCUPIED: Final = Occupied()


class Claim(Protocol):
    """An attempt that may be made now."""

    def settle(self, verdict: Verdict) -> None:
        """End the claim, in one atomic step for all of its limits; called once.

        RIGHT gives it back and forgets, where the policy forgives, the failures from before the claim. WRONG
        makes a failure of it. NONE gives it back as if it had never been. Raises StoreUnavailableError.
        """


class AttemptCounter(Protocol):
    """Counts failures and claims in progress for each key.

    A key has `free` claims. Failures within the window use them up, and so do claims in progress. Once the
    failures have used up all of them, one attempt at a time is let through, `AttemptPolicy.pause_after` after
    the last failure.
    """

    def claim(self, limits: Sequence[Limit]) -> Claim | Paused | Occupied:
        """Claim an attempt under all of the limits, or under none of them, in one atomic step.

        If several limits refuse, the longest pause is the answer; any pause comes before Occupied. Raises
        StoreUnavailableError if the counts lie in a store that cannot be reached.
        """


@dataclass(slots=True)
class Counts:
    """What an AttemptCounter keeps for one key; times are seconds on its clock."""

    failed: int = 0
    """Failures ever; it only grows, so that a claim can say which of them came before it."""
    forgiven: int = 0
    """How many of them no longer count."""
    window_end: float = 0.0
    pause_end: float = 0.0
    claims: int = 0
    """Attempts in progress."""

    def failures_at(self, now: float) -> int:
        if self.window_end <= now:
            self.forgiven = self.failed
            self.pause_end = 0.0
        return self.failed - self.forgiven

    def judge(self, policy: AttemptPolicy, verdict: Verdict, failed_before: int, now: float) -> None:
        """Count the verdict of an attempt before whose claim there had been so many failures ever."""
        failures = self.failures_at(now)
        if verdict is Verdict.WRONG:
            if not failures:
                self.window_end = now + policy.window.total_seconds()
            self.failed += 1
            self.pause_end = now + policy.pause_after(failures + 1).total_seconds()
        elif failures and verdict is Verdict.RIGHT and policy.forgive:
            self.forgiven = max(self.forgiven, min(self.failed, failed_before))
            self.pause_end = 0.0


def refusal(watched: Iterable[tuple[AttemptPolicy, Counts]], now: float) -> Paused | Occupied | None:
    """Return why an attempt may not be claimed now under all of these, or None if it may."""
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
    return _OCCUPIED if occupied else None
