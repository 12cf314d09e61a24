"""`make fuzz`: searches for inputs that break a promise of a parser, guided by coverage (atheris, libFuzzer).

Each target runs in a process of its own for some seconds. Inputs that it finds are written to `var/fuzz/`.
Correct the code, and then move the file to `corpus/`, so that `make test` tries it from then on.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

_FOUND: Final = Path("var/fuzz")
_DEFAULT_SECONDS: Final = 20
_MAX_BYTES: Final = 9000
"""The longest input in bytes, a little longer than a token may be."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="default: all")
    parser.add_argument("--seconds", type=int, default=_DEFAULT_SECONDS, help="for each target")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _fuzz(asked.targets[0], asked.seconds)
    return max(_start(name, asked.seconds) for name in asked.targets or _names())


def _names() -> list[str]:
    from tests.fuzz.targets import TARGETS

    return list(TARGETS)


def _start(name: str, seconds: int) -> int:
    command = [sys.executable, "-m", "tests.fuzz", "--child", "--seconds", str(seconds), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    counts = re.findall(r"^#(\d+)", done.stderr, re.MULTILINE)
    _say(f"{name:18} {int(counts[-1]) if counts else 0:>12,} runs {'FAILED' if done.returncode else ''}")
    if done.returncode:
        _say(done.stdout + done.stderr[-4000:])
    return done.returncode


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _fuzz(name: str, seconds: int) -> None:
    """Fuzz one target; this never returns, since libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["identity_service", "identity_client", "json", "base64"]):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.inputs import WORDS, known

    _FOUND.mkdir(parents=True, exist_ok=True)
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate((*target.seeds, *known(name), *WORDS)):
            Path(folder, str(number)).write_bytes(seed)
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={_MAX_BYTES}",
            f"-artifact_prefix={_FOUND}/{name}-",
        ]
        atheris.Setup([sys.argv[0], folder, *options], target.run)
        atheris.Fuzz()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
