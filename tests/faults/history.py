"""The history of a fault: the time when each revocation was acknowledged, and each wrong answer afterwards.

The module judges answers by the promises of the contract (semantics 1 and 6). It makes no calls.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc

from identity_client import IdentityError, Outcome, Verified


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Revocation:
    """One revocation that was acknowledged, and a token that it must have ended."""

    token: str = field(repr=False)
    refresh_token: str = field(default="", repr=False)
    target: str
    """token, token_id, session or subject."""
    process: int
    """The process that acknowledged it."""
    time: float
    """The time at which that was known, on the clock of `time.monotonic`."""
    valid_from: datetime
    """The start of the token's validity, which is ahead of the true time if a wrong clock made the token."""


@dataclass
class History:
    """Any thread may write to it."""

    bound: float
    """Seconds that another process may take to learn of a revocation: `max_staleness`."""
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    """Acknowledged revocations that a process let pass when it must have known of them."""
    mistakes: list[str] = field(default_factory=list)
    """Answers that no fault excuses: INTERNAL, and REVOKED for a token that was not revoked."""
    violation_times: list[float] = field(default_factory=list)
    """The times at which they were asked for, on the clock of `time.monotonic`."""
    longest_exposure: float = 0.0
    """Seconds from an acknowledgement to the last answer that did not know of it, where that was too late."""
    _revocations: list[Revocation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def revocations(self) -> Sequence[Revocation]:
        """All so far, the oldest first."""
        with self._lock:
            return tuple(self._revocations)

    def acknowledged(self, revocation: Revocation) -> None:
        """Call it when the answer is there, with the time at which it was there."""
        with self._lock:
            self._revocations.append(revocation)
            self.counts[f"revoked by {revocation.target}"] += 1

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[what] += number

    def failed(self, call: str, error: IdentityError) -> None:
        """A call that has failed. INTERNAL and UNKNOWN are bugs in any state of the store."""
        self.count(f"{call}: {error.reason or error.code.name}")
        if error.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
            self.mistake(f"{call} answered {error.code.name}: {error}")

    def mistake(self, text: str) -> None:
        with self._lock:
            self.mistakes.append(text)

    def judge(
        self, revocation: Revocation, outcome: Outcome, *, process: int, began: float, asked: float
    ) -> None:
        """Judge an answer about a revoked token that was asked for at `asked`, while a fault may last.

        A caller to which this process acknowledged the revocation, or that has asked it only since `began`,
        after the revocation, need not wait for it to learn of that.
        """
        self.count("answers about revoked tokens")
        if isinstance(outcome, Verified):
            self._expose(revocation, process, began, asked)
        elif outcome.reason not in ("REVOKED", "NOT_YET_VALID"):
            # A process whose clock was just set may still look at times first; in the end none may.
            self.mistake(f"process {process} rejected a revoked token as {outcome.reason}")

    def judge_finally(
        self, revocation: Revocation, outcome: Outcome, *, process: int, began: float, asked: float
    ) -> bool:
        """The same when the fault is over and everything can be known; False where it is not known yet."""
        self.count("answers in the end")
        if isinstance(outcome, Verified):
            self._expose(revocation, process, began, asked)
            return False
        is_early = outcome.reason == "NOT_YET_VALID" and revocation.valid_from > datetime.now(UTC)
        if outcome.reason != "REVOKED" and not is_early:
            self.mistake(f"process {process} rejected a revoked token as {outcome.reason} in the end")
        return True

    def judge_live(self, outcome: Outcome) -> None:
        """Judge an answer about a token whose revocation was never requested."""
        if isinstance(outcome, Verified):
            self.count("verified")
            return
        self.count(f"live token rejected: {outcome.reason}")
        if outcome.reason == "REVOKED":
            self.mistake("a token that was not revoked was rejected as revoked")

    def _expose(self, revocation: Revocation, process: int, began: float, asked: float) -> None:
        """Record a violation, unless the process may still be about to learn of the revocation."""
        age = asked - revocation.time
        if process != revocation.process and age <= self.bound and began <= revocation.time:
            return
        with self._lock:
            self.longest_exposure = max(self.longest_exposure, age)
            self.violation_times.append(asked)
            self.violations.append(
                f"process {process} verified a token that was revoked by {revocation.target} "
                f"on process {revocation.process} {age:.3f} s before"
            )
