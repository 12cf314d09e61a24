"""Prints the newest supported Python of this machine, if it is newer than the one that runs this module.

It looks for `python3.N` on PATH and among the versions that pyenv has installed.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_PROJECT = Path(__file__).parents[1] / "pyproject.toml"
_SUPPORTED = re.compile(r"Programming Language :: Python :: 3\.(\d+)")
_NEEDS = "import ssl, sqlite3, sys; print(sys.version_info.minor, sys.executable)"


def find() -> Path | None:
    """Return the path of the newest supported Python; None if no newer one is installed."""
    supported = sorted(map(int, _SUPPORTED.findall(_PROJECT.read_text(encoding="utf-8"))), reverse=True)
    for minor in supported:
        if minor <= sys.version_info.minor:
            return None
        for candidate in _candidates(minor):
            if _minor_of(candidate) == minor:
                return Path(candidate)
    return None


def _candidates(minor: int) -> Iterator[str]:
    found = shutil.which(f"python3.{minor}")
    if found:
        yield found
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False).stdout.strip()
        yield from map(
            str, sorted(Path(root).glob(f"versions/3.{minor}.*/bin/python3.{minor}"), reverse=True)
        )


def _minor_of(program: str) -> int | None:
    """Return the minor version of this Python; None if it does not start or lacks a required module."""
    done = subprocess.run([program, "-c", _NEEDS], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) if done.returncode == 0 else None


if __name__ == "__main__":
    sys.stdout.write(f"{find() or ''}\n")
