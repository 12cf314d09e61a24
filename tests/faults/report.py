"""The result of a fault test, printed as one line and written to a file; docs/reliability.md quotes it."""

import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.patience import PATIENCE

_PROMISED: Final = 5.0
BACK_WITHIN: Final = _PROMISED if os.environ.get("CRASH_ROUNDS") else PATIENCE
"""Seconds after the end of a fault within which the service must work again. The full form of the tests
(CRASH_ROUNDS) has the machine to itself and holds the promised 5 s; the short form may share the machine, and
only requires that the service recovers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The counts of one fault test."""

    fault: str
    rounds: int
    processes: int
    revocations: int
    """Number of acknowledged revocations; the token of each is verified again after the fault."""
    answers: int
    """Number of answers about revoked tokens while the fault lasted."""
    exposures: int
    """Number of answers that accepted a revoked token although the process had to know the revocation, during
    the fault or after it."""
    longest_exposure: float
    """Longest time in seconds from the acknowledgement of a revocation to an answer that wrongly ignored
    it."""
    exposed_for: float
    """Longest time in seconds from the end of a fault to an answer that wrongly accepted a revoked token,
    which is the time that the repair took."""
    lost: Sequence[str]
    """Revocations that some process, perhaps one that has just started, still ignores after the repair."""
    repaired: int
    """Number of facts that the store had lost and that the processes appended again."""
    recoveries: Sequence[float]
    """Seconds from the end of each fault until every process was serving and all kinds of calls succeeded."""
    counts: Mapping[str, int]
    mistakes: Sequence[str]
    first_exposures: Sequence[str]

    def publish(self, folder: Path) -> None:
        """Print one line (shown by `pytest -s`), and write all counts to `counts.json` in the folder."""
        (folder / "counts.json").write_text(json.dumps(asdict(self), indent=2))
        middle = statistics.median(self.recoveries) if self.recoveries else 0.0
        longest = max(self.recoveries, default=0.0)
        signed_out = self.counts.get("signed out", 0)
        sys.stdout.write(
            f"\nFAULT {self.fault}: rounds {self.rounds}, revocations {self.revocations}, "
            f"answers {self.answers}, exposed {self.exposures} (until {self.exposed_for:.2f} s after), "
            f"repaired {self.repaired}, lost {len(self.lost)}, signed out {signed_out}, "
            f"recovery median {middle:.2f} s, most {longest:.2f} s\n"
        )

    def require_repaired(self) -> None:
        """Check that no revocation is lost, no answer is a mistake, and the service recovered in time."""
        assert self.mistakes == []
        assert self.lost == []
        assert self.exposed_for < BACK_WITHIN
        assert self.revocations > 0
        assert max(self.recoveries, default=0.0) < BACK_WITHIN

    def require_unbroken(self) -> None:
        """Check `require_repaired`, and that no revocation was ignored and no session ended meanwhile."""
        assert list(self.first_exposures) == []
        assert self.counts.get("signed out", 0) == 0
        self.require_repaired()
