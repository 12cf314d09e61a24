"""Linux namespaces for processes of tests, created with `unshare`, which not every machine permits."""

import subprocess

from tests.patience import PATIENCE


def can_unshare(*options: str) -> bool:
    """Return whether a process may be started with these options of unshare(1)."""
    try:
        done = subprocess.run(["unshare", *options, "true"], check=False, timeout=PATIENCE)
    except OSError:
        return False
    return done.returncode == 0
