"""Counts failed attempts in the memory of one process."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Final

from identity_service.domain.attempts import (
    MAX_COUNTERS,
    AllClaimsInUse,
    Claim,
    Counts,
    Limit,
    Paused,
    Verdict,
    refusal,
)

_MAX_EXAMINED: Final = 1024
"""The largest number of counters that one failure examines while it holds the lock that all attempts need."""


class MemoryAttempts:
    """An implementation of the port LocalAttemptCounter; the counts end with the process.

    Claims never expire by themselves, since they end with the process as well.
    """

    def __init__(self, now: Callable[[], float], *, kept: int = MAX_COUNTERS) -> None:
        """Begin with no counts.

        Args:
            now: the boot clock, in seconds.
            kept: the largest number of counters with failures that are kept; beyond it the oldest are
                dropped.
        """
        self._now = now
        self._kept = kept
        self._lock = threading.Lock()
        # In the order of their first failure. A counter without a failure is here only while it has a claim.
        self._counters: OrderedDict[str, Counts] = OrderedDict()

    def is_clear(self, limits: Sequence[Limit]) -> bool:
        """Return whether no key of these limits has a failure or a claim."""
        # One lookup for each key: an attempt that begins between two of them may as well have begun later.
        return not any(limit.key in self._counters for limit in limits)

    def claim(self, limits: Sequence[Limit]) -> Claim | Paused | AllClaimsInUse:
        """Claim an attempt under all limits, or claim nothing and return the reason."""
        with self._lock:
            now = self._now()  # once it has the lock: another attempt may be settled while it waits for it
            known = self._counters
            found = [(limit, known.get(limit.key) or Counts()) for limit in limits]
            refused = refusal([(limit.policy, counts) for limit, counts in found], now)
            if refused is not None:
                return refused
            claimed = []
            for limit, counts in found:
                counts.claims += 1
                known[limit.key] = counts
                claimed.append((limit, counts, counts.failed))
        return Claim(settle=partial(self._settle, claimed))

    def _settle(self, claimed: Sequence[tuple[Limit, Counts, int]], verdict: Verdict) -> None:
        """End the claim of an attempt, and count its verdict under each limit."""
        with self._lock:
            now = self._now()
            for limit, counts, failed_before in claimed:
                counts.claims -= 1
                is_first = not counts.failures_at(now)
                counts.judge(limit.policy, verdict, failed_before, now)
                if not counts.claims and not counts.failures_at(now):
                    del self._counters[limit.key]
                elif is_first:
                    self._counters.move_to_end(limit.key)
            if verdict is Verdict.WRONG:
                self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop the oldest counters: those without failures in their window, and those beyond the bound.

        A counter with a claim in progress is kept; there are no more of these than threads that check
        attempts.
        """
        excess = len(self._counters) - self._kept
        over = []
        for key, counts in islice(self._counters.items(), _MAX_EXAMINED):
            if counts.claims:
                continue
            if excess <= 0 and counts.failures_at(now):
                break
            over.append(key)
            excess -= 1
        for key in over:
            del self._counters[key]
