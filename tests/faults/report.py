"""The cost of a fault, as one line and one file. The figures in docs/reliability.md are from here.

It judges only the counts that must be zero.
"""

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
"""Seconds after the end of a fault by which the service must be back: as promised in the full form of the
tests, which has the machine to itself; in the short form, which may run beside anything, in the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The counts of one test."""

    fault: str
    rounds: int
    processes: int
    revocations: int
    """The number of acknowledged revocations; each of their tokens is verified in the end."""
    answers: int
    """The number of answers about revoked tokens while the fault lasted."""
    exposures: int
    """The number of answers that were `verified` when it was too late for that, including those of the
    end."""
    longest_exposure: float
    """Seconds after its acknowledgement that a revocation was last ignored."""
    exposed_for: float
    """Seconds after the end of a fault that such an answer was last given: the time to repair."""
    lost: Sequence[str]
    """Revocations that any process ignores in the end, one that has just started among them."""
    repaired: int
    """The number of facts that the store had lost and the processes have repaired."""
    recoveries: Sequence[float]
    """Seconds from the end of each fault until every process serves and does everything."""
    counts: Mapping[str, int]
    mistakes: Sequence[str]
    first_exposures: Sequence[str]

    def publish(self, folder: Path) -> None:
        """Print the line (seen with `pytest -s`), and write everything to `counts.json`."""
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
        """Nothing is lost in the end, no answer was one that no fault excuses, and it was back in time."""
        assert self.mistakes == []
        assert self.lost == []
        assert self.exposed_for < BACK_WITHIN
        assert self.revocations > 0
        assert max(self.recoveries, default=0.0) < BACK_WITHIN

    def require_unbroken(self) -> None:
        """Besides, no revocation was ignored for a moment, and no session ended."""
        assert list(self.first_exposures) == []
        assert self.counts.get("signed out", 0) == 0
        self.require_repaired()
