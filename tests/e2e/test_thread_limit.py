"""A service to which the system refuses a thread at start ends with one line that says what to raise."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.process import Installation
from tests.patience import PATIENCE

_WITHOUT = """
import sys, threading
start, refused = threading.Thread.start, sys.argv.pop(1)

def start_unless_refused(thread):
    if thread.name.startswith(refused):
        raise RuntimeError("can't start new thread")
    start(thread)

threading.Thread.start = start_unless_refused
from identity_service.__main__ import main
main()
"""


def serve(installation: Installation, refused: str) -> subprocess.CompletedProcess[str]:
    """Start the service in a system that refuses each thread whose name begins with `refused`."""
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT, refused, "serve", "--listen", "127.0.0.1:0"],
        env=installation.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    "refused",
    [
        "identity-room",
        "identity-last-resort",
        "identity-signals",
        "identity-check",
        "identity-sender",
        "identity-work",
        "identity-calls",
        "identity-follow",
        "identity-keys",
        "identity-health",
    ],
)
def test_a_thread_that_is_refused_at_start_is_one_line(tmp_path: Path, refused: str) -> None:
    installation = Installation(tmp_path, f"sqlite:///{tmp_path}/identity.db")
    installation.init()

    served = serve(installation, refused)

    assert served.returncode == 1, served.stderr
    (line,) = served.stderr.splitlines()
    assert line.startswith("identity: ")
    assert "ulimit -u" in line
