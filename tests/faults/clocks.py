"""A wall clock that a test can set while processes run under it; their monotonic clock is not changed.

The clock is a small file with an offset, which libfaketime reads each time a process asks for the time.
"""

import atexit
import importlib.util
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

_SOURCES: Final = "vendor/libfaketime/src"
_FLAGS: Final = (
    *("-std=gnu99", "-O2", "-fPIC", "-shared", "-Wl,--version-script=libfaketime.map"),
    *("-DFAKE_STAT", "-DFAKE_UTIME", "-DFAKE_SLEEP", "-DFAKE_TIMERS"),
    *("-DFAKE_INTERNAL_CALLS", '-DPREFIX="/usr/local"', '-DLIBDIRNAME="/lib"'),
    "-DPTHREAD_SINGLETHREADED_TIME",
)
"""Compiler flags from libfaketime's own Makefile for `libfaketimeMT.so`, without `-DFAKE_PTHREAD`.

With `-DFAKE_PTHREAD`, each wait of a thread for Python's interpreter lock reads the file, although such a
wait uses the monotonic clock: starting the service took 2.3 s of processor time instead of 0.5 s."""


class SteppedClock:
    """A wall clock that a test can set, for processes started with the variables in `environment`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.seconds = 0.0
        """The offset from the true time, in seconds."""
        self.step(0)

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: float) -> None:
        """Set the clock of all processes under it to the true time plus this many seconds, at once."""
        self.seconds = seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+.3f}\n")
        new.replace(self._file)  # no process reads half of it


@cache
def _library() -> Path:
    """Build libfaketime for multithreaded programs, from the sources in the Python package `libfaketime`.

    The library that the package itself has built shares buffers between threads without a lock: when the
    clock is set, a process crashes within seconds, or sees the true time for a moment.
    """
    spec = importlib.util.find_spec("libfaketime")  # not imported: that would look into the environment
    if spec is None or spec.origin is None:
        raise RuntimeError("the package libfaketime is missing; it is in the dependency group dev")
    if (compiler := shutil.which("cc") or shutil.which("gcc")) is None:
        raise RuntimeError("these tests set clocks, which takes a C compiler: install gcc")
    folder = Path(mkdtemp(prefix="libfaketime-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    built = folder / "libfaketimeMT.so.1"
    subprocess.run(
        [compiler, *_FLAGS, "-o", str(built), "libfaketime.c", "-ldl", "-lm", "-lpthread", "-lrt"],
        cwd=Path(spec.origin).parent / _SOURCES,
        check=True,
    )
    return built
