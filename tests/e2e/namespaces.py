"""Linux namespaces for the processes of tests. `unshare` creates them, which not every machine permits."""

import subprocess

from tests.patience import PATIENCE


def can_unshare(*options: str) -> bool:
    """Return whether this machine lets a process start with these options of unshare(1)."""
    try:
        done = subprocess.run(["unshare", *options, "true"], check=False, timeout=PATIENCE)
    except OSError:
        return False
    return done.returncode == 0
