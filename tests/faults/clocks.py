"""A wall clock that can be set while a process runs under it; its steady clock goes on as before.

The module owns one small file that libfaketime reads at every look at the clock. It knows no process.
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
"""Those of libfaketime's own Makefile for its `libfaketimeMT.so`, but without `-DFAKE_PTHREAD`.

With it, each wait of a thread for Python's interpreter lock reads the file, although such a wait goes by the
steady clock: to start the service took 2.3 s of a processor instead of 0.5 s.
"""


class SteppedClock:
    """A wall clock that can be set, for processes that are started with `environment`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.seconds = 0.0
        """The difference from the true time."""
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
        """Set the clock to the true time and so many seconds more, at once for all processes under it."""
        self.seconds = seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+.3f}\n")
        new.replace(self._file)  # no process reads half of it


@cache
def _library() -> Path:
    """Build libfaketime for programs with several threads, from the sources in the package libfaketime.

    The library that the package has built shares its buffers between threads without a lock: a process whose
    clock is set is ended by it within seconds, or sees the true time for a moment.
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
