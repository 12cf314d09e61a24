"""Linux namespaces for processes of tests, made with unshare(1), which not every machine allows."""

import subprocess

from tests.patience import PATIENCE


def can_unshare(*options: str) -> bool:
    """Return whether unshare(1) with these options works on this machine."""
    try:
        done = subprocess.run(["unshare", *options, "true"], check=False, timeout=PATIENCE)
    except OSError:
        return False
    return done.returncode == 0
