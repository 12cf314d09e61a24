"""A record of one fault test: the acknowledged revocations, and each wrong answer that was given afterwards.

The service promises that the process that acknowledged a revocation rejects the token at once, and that every
other process does so within `max_staleness`. The module judges answers by this promise; it makes no calls.
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
    """One acknowledged revocation, with a token that must be rejected because of it."""

    token: str = field(repr=False)
    refresh_token: str = field(default="", repr=False)
    target: str
    """The kind of the revocation: "token", "token_id", "session" or "subject"."""
    process: int
    """The number of the process that acknowledged the revocation."""
    time: float
    """When the acknowledgement arrived, on the clock of `time.monotonic`."""
    valid_from: datetime
    """The start of the token's validity, which lies in the future if the process that issued it had a fast
    clock."""


@dataclass
class History:
    """The acknowledged revocations of one test, and the verdicts on the answers given; thread-safe."""

    bound: float
    """Seconds that another process may take to learn of a revocation: `max_staleness`."""
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    """One text for each answer that accepted a revoked token although the process had to know the
    revocation."""
    mistakes: list[str] = field(default_factory=list)
    """Answers that no fault excuses, such as INTERNAL, or REVOKED for a token that was not revoked."""
    violation_times: list[float] = field(default_factory=list)
    """When the violating answers were requested, on the clock of `time.monotonic`."""
    longest_exposure: float = 0.0
    """The longest time in seconds from the acknowledgement of a revocation to a request whose answer wrongly
    ignored the revocation."""
    _revocations: list[Revocation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def revocations(self) -> Sequence[Revocation]:
        """The acknowledged revocations so far, the oldest first."""
        with self._lock:
            return tuple(self._revocations)

    def acknowledged(self, revocation: Revocation) -> None:
        """Record a revocation whose acknowledgement has just arrived."""
        with self._lock:
            self._revocations.append(revocation)
            self.counts[f"revoked by {revocation.target}"] += 1

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[what] += number

    def failed(self, call: str, error: IdentityError) -> None:
        """Record a failed call; INTERNAL and UNKNOWN are mistakes, which no state of the store excuses."""
        self.count(f"{call}: {error.reason or error.code.name}")
        if error.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
            self.mistake(f"{call} answered {error.code.name}: {error}")

    def mistake(self, text: str) -> None:
        with self._lock:
            self.mistakes.append(text)

    def judge(
        self, revocation: Revocation, outcome: Outcome, *, process: int, began: float, asked: float
    ) -> None:
        """Judge the answer to a request for a revoked token that was sent at `asked`, while a fault may last.

        The answering process has `bound` seconds to learn of the revocation. The delay is not granted if this
        process acknowledged the revocation itself, or if the caller's first contact with the process
        (`began`) came after the revocation.
        """
        self.count("answers about revoked tokens")
        if isinstance(outcome, Verified):
            self._expose(revocation, process, began, asked)
        elif outcome.reason not in ("REVOKED", "NOT_YET_VALID"):
            # A process with a wrong clock may reject a token for its times before it looks for a revocation.
            self.mistake(f"process {process} rejected a revoked token as {outcome.reason}")

    def judge_finally(
        self, revocation: Revocation, outcome: Outcome, *, process: int, began: float, asked: float
    ) -> bool:
        """Judge an answer given after the fault; return False if the revoked token was still accepted."""
        self.count("answers in the end")
        if isinstance(outcome, Verified):
            self._expose(revocation, process, began, asked)
            return False
        is_early = outcome.reason == "NOT_YET_VALID" and revocation.valid_from > datetime.now(UTC)
        if outcome.reason != "REVOKED" and not is_early:
            self.mistake(f"process {process} rejected a revoked token as {outcome.reason} in the end")
        return True

    def judge_live(self, outcome: Outcome) -> None:
        """Judge the answer about a token that no caller has asked to revoke."""
        if isinstance(outcome, Verified):
            self.count("verified")
            return
        self.count(f"live token rejected: {outcome.reason}")
        if outcome.reason == "REVOKED":
            self.mistake("a token that was not revoked was rejected as revoked")

    def _expose(self, revocation: Revocation, process: int, began: float, asked: float) -> None:
        """Record a violation, unless the process still had time to learn of the revocation."""
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
