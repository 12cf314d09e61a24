"""Counts of attempts in the memory of one process."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import islice
from typing import Final

from identity_service.domain.attempts import MAX_COUNTERS, Claim, Limit, Occupied, Paused, Verdict

_OCCUPIED: Final = Occupied()
_LOOKED_AT: Final = 1024
"""How many counters one failure looks at: an hour of them at once would hold up others."""


class MemoryAttempts:
    """Implements the port AttemptCounter; the counts are gone with the process.

    Claims need no end of their own: a process that is killed takes them along.
    """

    def __init__(self, now: Callable[[], float], *, kept: int = MAX_COUNTERS) -> None:
        """Begin with no counts.

        Args:
            now: seconds on a clock that is never set.
            kept: how many counters with failures are kept at most.
        """
        self._now = now
        self._kept = kept
        self._lock = threading.Lock()
        # In the order of their first failure. Those without a failure are here only while they are claimed.
        self._counters: OrderedDict[str, _Counter] = OrderedDict()

    def claim(self, limits: Sequence[Limit]) -> Claim | Paused | Occupied:
        now = self._now()
        with self._lock:
            counters = self._counters
            claimed = []
            left, occupied = 0.0, False
            for limit in limits:
                counter = counters.get(limit.key) or _Counter()
                failures = counter.failures_at(now)
                if failures < limit.policy.free:
                    occupied |= failures + counter.claims >= limit.policy.free
                elif counter.pause_end > now:
                    left = max(left, counter.pause_end - now)
                else:
                    occupied |= counter.claims > 0
                claimed.append((limit, counter, counter.failed))
            if left:
                return Paused(left=timedelta(seconds=left))
            if occupied:
                return _OCCUPIED
            for limit, counter, _ in claimed:
                counter.claims += 1
                counters[limit.key] = counter
        return _MemoryClaim(self, claimed)

    def settle(self, claimed: Sequence[tuple[Limit, "_Counter", int]], verdict: Verdict) -> None:
        """End a claim. Called by the claim alone."""
        now = self._now()
        with self._lock:
            for limit, counter, failed_before in claimed:
                counter.claims -= 1
                failures = counter.failures_at(now)
                if verdict is Verdict.WRONG:
                    if not failures:
                        counter.window_end = now + limit.policy.window.total_seconds()
                        self._counters.move_to_end(limit.key)
                    counter.failed += 1
                    counter.pause_end = now + limit.policy.pause_after(failures + 1).total_seconds()
                elif failures and verdict is Verdict.RIGHT and limit.policy.forgive:
                    counter.forgiven = max(counter.forgiven, failed_before)
                    counter.pause_end = 0.0
                if not counter.claims and counter.failed == counter.forgiven:
                    del self._counters[limit.key]
            if verdict is Verdict.WRONG:
                self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop the oldest counters: those whose window is over, and those beyond the bound.

        A counter with a claim in progress stays; there are no more of those than threads work on attempts.
        """
        excess = len(self._counters) - self._kept
        over = []
        for key, counter in islice(self._counters.items(), _LOOKED_AT):
            if counter.claims:
                continue
            if excess <= 0 and counter.failures_at(now):
                break
            over.append(key)
            excess -= 1
        for key in over:
            del self._counters[key]


class _Counter:
    """The counts of one key."""

    __slots__ = ("claims", "failed", "forgiven", "pause_end", "window_end")

    def __init__(self) -> None:
        self.failed = 0
        """Failures ever; it only grows, so that a claim can say which of them came before it."""
        self.forgiven = 0
        """How many of them no longer count."""
        self.window_end = 0.0
        self.pause_end = 0.0
        self.claims = 0

    def failures_at(self, now: float) -> int:
        if self.window_end <= now:
            self.forgiven = self.failed
            self.pause_end = 0.0
        return self.failed - self.forgiven


class _MemoryClaim:
    """Implements the port Claim."""

    __slots__ = ("_attempts", "_claimed")

    def __init__(self, attempts: MemoryAttempts, claimed: Sequence[tuple[Limit, _Counter, int]]) -> None:
        self._attempts = attempts
        self._claimed = claimed

    def settle(self, verdict: Verdict) -> None:
        self._attempts.settle(self._claimed, verdict)
