"""Starts an abuser as a child process and waits until its abuse is held."""

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
"""An address of this machine that no limit exempts, and that no other client of a test has."""


@dataclass
class Outcomes:
    """The number of each event that the abuser saw."""

    held: dict[str, int]
    """The counts until the abuse was held."""
    all: dict[str, int] = field(default_factory=dict)
    """The counts in all; empty until the abuse was stopped."""


@contextmanager
def abusing(
    name: str, target: str, *, source: str = STRANGER, count: int = 0, options: Sequence[str] = ()
) -> Iterator[Outcomes]:
    """Give the block a server on which the abuse is held, from beginning to end.

    Args:
        name: of the abuse, see `abuses.py`.
        target: host:port of the server.
        source: the address that the abuse comes from.
        count: the size of the abuse; 0 = its usual one.
        options: more of the command line.
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
