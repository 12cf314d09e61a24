"""Namespaces of Linux for processes of tests, made with `unshare`: not every machine gives the right to."""

import subprocess

from tests.patience import PATIENCE


def can_unshare(*options: str) -> bool:
    """Return whether a process may be started with these options of unshare(1)."""
    try:
        done = subprocess.run(["unshare", *options, "true"], check=False, timeout=PATIENCE)
    except OSError:
        return False
    return done.returncode == 0
