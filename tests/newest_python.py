"""Print the newest Python of this machine that the project supports, if it is newer than the one that runs.

The program looks for `python3.N` on the path, and among the versions that pyenv has.
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
    """The program, or None where there is no newer one."""
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
    """Return the version of this Python; None if it does not run, or lacks a required module."""
    done = subprocess.run([program, "-c", _NEEDS], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) if done.returncode == 0 else None


if __name__ == "__main__":
    sys.stdout.write(f"{find() or ''}\n")
