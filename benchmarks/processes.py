"""The processes of a benchmark: each runs on one core, and is ended by its pid.

The module knows no service.
"""

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

_PATIENCE: Final = 60.0
"""The number of seconds that a child may take to get ready, and to end."""
_POLL: Final = 0.02
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_LOG_TAIL: Final = 2000
_REASON_LENGTH: Final = 300


class BenchmarkError(Exception):
    """A measurement failed, or its result does not count; the message gives the reason."""

    @property
    def reason(self) -> str:
        """Return one line: the error, and the last line of a quoted log that gives the reason."""
        happened, *quoted = filter(None, (line.strip(" │╭╮╰╯─") for line in str(self).splitlines()))
        errors = [line for line in quoted if "error" in line.lower() and " " in line] or quoted
        return f"{happened} {errors[-1]}"[:_REASON_LENGTH] if errors else happened


class StoppedError(Exception):
    """The benchmark was told to end; no measurement may treat this as its own failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """The core for the servers, and the core for the load and for Redis."""

    server: int
    load: int

    @classmethod
    def choose(cls) -> "Cores":
        """Return the first two cores that this process may run on."""
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise BenchmarkError("two cores are needed: one for the server and one for the load")
        return cls(server=allowed[0], load=allowed[1])


class Stopwatch:
    """A stopwatch that also measures how busy each core was, by any process."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._before = _core_seconds()

    def busy(self) -> dict[int, float]:
        """Return the fraction of the time since the start for which each core was busy, from 0 to 1."""
        elapsed = time.monotonic() - self._start
        return {
            core: min(1.0, (seconds - self._before[core]) / elapsed)
            for core, seconds in _core_seconds().items()
        }


def _core_seconds() -> dict[int, float]:
    """Return the seconds for which each core was busy since the machine started (proc_stat(5))."""
    lines = Path("/proc/stat").read_text().splitlines()
    rows = [line.split() for line in lines if line.startswith("cpu") and line[3].isdigit()]
    # The fields: user, nice, system, idle, iowait, irq, softirq, steal, guest (part of user).
    return {int(row[0][3:]): sum(int(row[i]) for i in (1, 2, 3, 6, 7)) / _TICKS_PER_SECOND for row in rows}


@contextlib.contextmanager
def on_core(*cores: int) -> Iterator[None]:
    """Let this thread, and the processes that it starts within the block, run on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """A child process on one core or several, ended when the block ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        cores: Sequence[int],
        directory: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._name = name
        # Files, not pipes: a pipe that nobody reads stops a server that logs.
        self._output = directory / f"{name}.out"
        self._log = directory / f"{name}.log"
        with self._output.open("wb") as stdout, self._log.open("wb") as stderr, on_core(*cores):
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
        """The resident memory of the process now."""
        return _resident_bytes(self._child.pid)

    @property
    def largest_child_bytes(self) -> int:
        """The resident memory now of the largest process that it started."""
        return max(map(_resident_bytes, children(self.pid)), default=0)

    @property
    def cpu_seconds(self) -> float:
        """The CPU time so far of the threads of the process that have not ended."""
        return _cpu_seconds(self.pid)

    @property
    def children_seconds(self) -> float:
        """The CPU time so far of the processes that it started."""
        return sum(map(_cpu_seconds, children(self.pid)))

    def first_line(self) -> str:
        """Return the line that the child prints once it serves. Raises BenchmarkError if it ends before."""
        self.wait_until(lambda: b"\n" in self._output.read_bytes())
        return self._output.read_text().splitlines()[0]

    def wait_until(self, ready: Callable[[], bool], patience: float = _PATIENCE) -> None:
        """Poll until `ready()`. Raises BenchmarkError if the child ends first, or takes too long."""
        deadline = time.monotonic() + patience
        while not ready():
            self.require_running()
            if time.monotonic() > deadline:
                raise self._failure("did not get ready")
            time.sleep(_POLL)

    def require_running(self) -> None:
        """Raise BenchmarkError if the child has ended."""
        if self._child.poll() is not None:
            raise self._failure(f"ended with code {self._child.returncode}")

    def _failure(self, what: str) -> BenchmarkError:
        """Return an error with the end of the child's log."""
        log = self._log.read_text(errors="replace")[-_LOG_TAIL:]
        return BenchmarkError(f"{self._name} {what}; its log ends with:\n{log}")

    def stop(self) -> None:
        """End the child with SIGTERM, or with SIGKILL if it does not end."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()  # without a limit: a thread may still wait for the disk


def children(pid: int) -> list[int]:
    """Return the processes that this one started and that have not ended (proc_tid_children(5))."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads: the first field of schedstat, in nanoseconds, counts no ticks."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _resident_bytes(pid: int) -> int:
    """Return the resident memory of a process (proc_pid_statm(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _dies_with_us() -> Sequence[str]:
    """Return a command prefix that ends the child if the benchmark is killed; empty without util-linux."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
