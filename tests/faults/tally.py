"""The counts of one run of a fault test, for the table of docs/reliability.md.

`pytest -s` shows the counts of a run; `sum_tallies` adds the counts of many runs. The tests, not this module,
judge the counts.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(kw_only=True)
class Tally:
    """The counts of one scenario on one kind of store."""

    scenario: str
    rounds: int = 1
    operations: int = 0
    """Number of answers about tokens."""
    acknowledged: int = 0
    """Number of acknowledged revocations."""
    violations: int = 0
    """Number of answers that accepted a token whose revocation had been acknowledged before."""
    recovery: float = 0.0
    """Longest time in seconds from the end of the fault until every answer was right again."""

    def revoked(self, number: int) -> None:
        """Add this many acknowledged revocations to the count."""
        self.acknowledged += number

    def answered(self, *verified: bool) -> None:
        """Count answers about revoked tokens; each argument says if the token was (wrongly) verified."""
        self.operations += len(verified)
        self.violations += sum(verified)

    def asked(self, number: int) -> None:
        """Count this many answers about tokens that were not revoked."""
        self.operations += number

    @contextmanager
    def recovering(self) -> Iterator[None]:
        """Measure the duration of the block, which must end when every answer is right again."""
        began = time.monotonic()
        yield
        self.recovery = max(self.recovery, time.monotonic() - began)

    def publish(self) -> None:
        """Print the counts, and append them to the file that FAULT_TALLIES names, if the variable is set."""
        line = json.dumps(asdict(self))
        sys.stdout.write(f"\nFAULT {line}\n")
        if path := os.environ.get("FAULT_TALLIES"):
            with Path(path).open("a") as file:
                file.write(f"{line}\n")


def sum_tallies(lines: Iterable[str]) -> str:
    """Return the rows of the table, one for each scenario, from lines that `publish` has written."""
    sums: dict[str, Tally] = {}
    for line in lines:
        one = Tally(**json.loads(line))
        total = sums.setdefault(one.scenario, Tally(scenario=one.scenario, rounds=0))
        total.rounds += one.rounds
        total.operations += one.operations
        total.acknowledged += one.acknowledged
        total.violations += one.violations
        total.recovery = max(total.recovery, one.recovery)
    return "\n".join(
        f"| {t.scenario} | {t.rounds} | {t.operations:,} | {t.acknowledged:,} | {t.violations} "
        f"| {t.recovery:.1f} s |"
        for t in sums.values()
    )


if __name__ == "__main__":
    print(sum_tallies(Path(sys.argv[1]).read_text().splitlines()))  # noqa: T201  # the rows, to be pasted
