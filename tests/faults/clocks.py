"""A wall clock that can be set while a process runs under it; its steady clock goes on as before.

Owns one small file that libfaketime reads at every look at the clock. Knows no process.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_LIBRARY: Final = "vendor/libfaketime/src/libfaketime.so.1"


class SteppedClock:
    """For processes that are started with `environment`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.seconds = 0.0
        """How far it is from the true time."""
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
        new.replace(self._file)  # nobody reads half of it


def _library() -> Path:
    """In the package libfaketime, which is not imported: that would look into the environment."""
    spec = importlib.util.find_spec("libfaketime")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package libfaketime is missing; it is in the dependency group dev")
    return Path(spec.origin).parent / _LIBRARY
