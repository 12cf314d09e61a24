"""The service as process 1 of a container, for which Linux ignores signals that it does not handle.

SIGTERM must end the service in spite of that. Each service runs as process 1 of its own PID namespace.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Final

import pytest

from tests.e2e.namespaces import can_unshare
from tests.e2e.process import Installation
from tests.patience import PATIENCE, until
from tests.ports import reserve_address

_STEPS: Final = [step * 0.05 for step in range(30)]
"""Seconds between the moment when the service handles SIGTERM and the signal: during the start, and while it
serves."""
_AT_ONCE: Final = 3
_SERVE: Final = ("-m", "identity_service", "serve")
_ENDED: Final = 128 + signal.SIGTERM


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_unshare("--pid", "--fork"), reason="namespaces are not permitted here"),
]


@contextmanager
def first_process(*words: str, installation: Installation, **changes: str) -> Iterator["First"]:
    """Run a Python program as process 1 of a new PID namespace."""
    log = installation.folder / "first.log"
    with log.open("wb") as written:
        outside = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", sys.executable, *words],
            cwd=installation.folder,
            env=installation.environ | changes,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        )
    try:
        yield First(outside, log)
    finally:
        if outside.poll() is None:
            outside.kill()  # and with it, by `--kill-child`, the process inside
            outside.wait(PATIENCE)


class First:
    """The process 1 of a namespace, and `unshare` outside of it, which ends with the same exit code."""

    def __init__(self, outside: "subprocess.Popen[bytes]", log: Path) -> None:
        self._outside = outside
        self._log = log
        until(lambda: bool(self._children()) or outside.poll() is not None)
        (self.pid,) = self._children()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def handles_sigterm(self) -> bool:
        """Return whether the process has a handler for SIGTERM, by its status in /proc."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def terminate(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self._outside.wait(PATIENCE)

    def _children(self) -> list[int]:
        pid = self._outside.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("engine", ["grpcio", "envoy"])
def test_sigterm_ends_the_first_process_whenever_it_comes(tmp_path: Path, engine: str) -> None:
    installation = Installation(tmp_path, f"sqlite:///{tmp_path}/identity.db")
    installation.init()

    def stop_after(seconds: float) -> int:
        folder = tmp_path / f"{seconds:.2f}"
        folder.mkdir()
        own = Installation(folder, installation.store)
        words = (*_SERVE, "--engine", engine, "--listen", reserve_address())
        with first_process(*words, installation=own) as first:
            until(lambda: first.handles_sigterm)
            sleep(seconds)  # this test is about a time
            code = first.terminate()
            assert code in (0, _ENDED), first.log
            assert (code == 0) == ("stopping" in first.log), (code, first.log)
            return code

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        codes = list(pool.map(stop_after, _STEPS))
    assert codes[0] == _ENDED, "nothing was begun"


def test_sigterm_ends_the_first_process_while_it_imports(tmp_path: Path) -> None:
    """The slow import is simulated by a module `typer` that takes 1,000 s to load."""
    (tmp_path / "typer.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(1000)\n")
    installation = Installation(tmp_path, f"sqlite:///{tmp_path}/identity.db")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with first_process(*_SERVE, installation=installation, PYTHONPATH=path) as first:
        until(lambda: "loading" in first.log)
        assert first.terminate() == _ENDED
