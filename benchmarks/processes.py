"""Processes of a benchmark: each on one core, each ended by its own pid. Knows not what they serve."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_PATIENCE: Final = 15.0
_POLL: Final = 0.02
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_LOG_TAIL: Final = 2000
_REASON_LENGTH: Final = 300


class BenchmarkError(Exception):
    """Nothing could be measured, or what was measured does not count; the message says why."""

    @property
    def reason(self) -> str:
        """In one line: what happened, and of a log that is quoted the last line that says why."""
        happened, *quoted = filter(None, (line.strip(" │╭╮╰╯─") for line in str(self).splitlines()))
        errors = [line for line in quoted if "error" in line.lower() and " " in line] or quoted
        return f"{happened} {errors[-1]}"[:_REASON_LENGTH] if errors else happened


class StoppedError(Exception):
    """Somebody wants the benchmark to end; no measurement may take it for its own failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Which core serves, and which one makes the load and runs what the servers depend on."""

    server: int
    load: int

    @classmethod
    def choose(cls) -> "Cores":
        """The first two that this process may run on."""
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise BenchmarkError("two cores are needed: one for the server and one for the load")
        return cls(server=allowed[0], load=allowed[1])


class Stopwatch:
    """How long something took, and how busy each core was meanwhile, whoever kept it busy."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._before = _core_seconds()

    def busy(self) -> dict[int, float]:
        """Core → the share of the time since the start that it worked, from 0 to 1."""
        elapsed = time.monotonic() - self._start
        return {
            core: min(1.0, (seconds - self._before[core]) / elapsed)
            for core, seconds in _core_seconds().items()
        }


def _core_seconds() -> dict[int, float]:
    """Core → seconds of work since the machine started (proc_stat(5))."""
    lines = Path("/proc/stat").read_text().splitlines()
    rows = [line.split() for line in lines if line.startswith("cpu") and line[3].isdigit()]
    # The fields: user, nice, system, idle, iowait, irq, softirq, steal, guest (part of user).
    return {int(row[0][3:]): sum(int(row[i]) for i in (1, 2, 3, 6, 7)) / _TICKS_PER_SECOND for row in rows}


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """What this thread starts meanwhile runs on that core only: a child inherits the affinity."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """A child on one core, ended when the block ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        core: int,
        directory: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._name = name
        # Files, not pipes: a pipe that nobody reads stops a server that logs.
        self._output = directory / f"{name}.out"
        self._log = directory / f"{name}.log"
        with self._output.open("wb") as stdout, self._log.open("wb") as stderr, on_core(core):
            self._child = subprocess.Popen(
                [*_dies_with_us(), *command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=env,
                cwd=cwd,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def resident_bytes(self) -> int:
        """Its memory now."""
        return _resident_bytes(self._child.pid)

    @property
    def largest_child_bytes(self) -> int:
        """The memory now of the largest process that it started."""
        pid = self._child.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return max((_resident_bytes(int(child)) for child in children), default=0)

    def first_line(self) -> str:
        """What the child prints once it serves. Raises BenchmarkError where it ends without."""
        self.wait_until(lambda: b"\n" in self._output.read_bytes())
        return self._output.read_text().splitlines()[0]

    def wait_until(self, ready: Callable[[], bool], patience: float = _PATIENCE) -> None:
        """Poll until `ready()`. Raises BenchmarkError where the child ends first, or takes too long."""
        deadline = time.monotonic() + patience
        while not ready():
            self.require_running()
            if time.monotonic() > deadline:
                raise self._failure("did not get ready")
            time.sleep(_POLL)

    def require_running(self) -> None:
        """Raises BenchmarkError where it has ended."""
        if self._child.poll() is not None:
            raise self._failure(f"ended with code {self._child.returncode}")

    def _failure(self, what: str) -> BenchmarkError:
        """An error with the end of the child's log."""
        log = self._log.read_text(errors="replace")[-_LOG_TAIL:]
        return BenchmarkError(f"{self._name} {what}; its log ends with:\n{log}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that is not enough."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait(_PATIENCE)


def _resident_bytes(pid: int) -> int:
    """See proc_pid_statm(5)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _dies_with_us() -> Sequence[str]:
    """So that a benchmark that was killed leaves no server behind, where util-linux is there."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
