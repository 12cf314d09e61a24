"""Starts an abuser (tests/abuse/__main__.py) as a child process, and waits until its abuse is under way."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.patience import PATIENCE

ROOT: Final = Path(__file__).parents[2]
STRANGER: Final = "127.0.0.2"
"""A loopback address that no rate limit exempts, and that no other client of a test uses."""


@dataclass
class Outcomes:
    """The number of times that the abuser has seen each event, such as a closed connection or a status."""

    held: dict[str, int]
    """The counts when the abuse was fully under way."""
    all: dict[str, int] = field(default_factory=dict)
    """The counts at the end of the abuse; empty before."""


@contextmanager
def abusing(
    name: str, target: str, *, source: str = STRANGER, count: int = 0, options: Sequence[str] = ()
) -> Iterator[Outcomes]:
    """Abuse the server while the block runs; the block starts when the abuse is fully under way.

    Args:
        name: a key of `ABUSES` in `abuses.py`.
        target: host:port of the server.
        source: the address that the abuser connects from.
        count: the number of streams or connections, or of calls per second; 0 = the default of this abuse.
        options: further options of the abuser's command line.
    """
    words = [name, target, "--source", source, "--count", str(count), *options]
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.abuse", *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        assert line, f"the abuser {name} ended"
        outcomes = Outcomes(json.loads(line))
        yield outcomes
        out, _ = child.communicate("", timeout=PATIENCE)
        outcomes.all = json.loads(out)
        assert child.returncode == 0
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()
