"""Finds all processes that a service has started on Linux, including those whose parent has ended."""

from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.e2e.process import Installation

_NAME: Final = "MARK_OF_A_TEST"


class Descendants:
    """The processes of one installation, which all inherit an environment variable that marks them."""

    def __init__(self, installation: Installation) -> None:
        """Mark all processes that the installation starts after this call."""
        mark = uuid4().hex
        installation.environment[_NAME] = mark
        self._mark = f"{_NAME}={mark}".encode()

    def alive(self) -> set[int]:
        """Return the ids of the marked processes that have not ended, the service's own included."""
        return {int(path.name) for path in Path("/proc").iterdir() if self._is_alive(path)}

    def running(self, command: bytes) -> set[int]:
        """Return the ids of the marked processes whose command line contains `command`."""
        return {pid for pid in self.alive() if command in command_line(pid)}

    def _is_alive(self, path: Path) -> bool:
        if not path.name.isdigit() or self._mark not in _read(path / "environ").split(b"\0"):
            return False
        state = _read(path / "stat").rpartition(b")")[2].split()[:1]
        return state not in ([], [b"Z"])  # ended, and perhaps not yet reaped


def children(pid: int, command: bytes) -> set[int]:
    """Return the ids of the direct children of a process whose command line contains `command`."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in text.split() if command in command_line(int(child))}


def command_line(pid: int) -> bytes:
    """Return the command line of a process; empty if it has ended."""
    return _read(Path(f"/proc/{pid}/cmdline"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
