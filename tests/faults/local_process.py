"""A LocalVerifier in a process of its own, so that a test can run it under a clock of its own.

As a program, the module reads one token per line and prints one line for each: "" for a valid token, the
reason of a rejection, or "not fresh". The class `LocalProcess` starts that program and talks to it.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Self, cast

from identity_client import LocalVerifier, NotFreshError, Rejected

_PATIENCE = 10.0


class LocalProcess:
    """A child process with a LocalVerifier, asked through pipes; use it as a context manager."""

    def __init__(self, target: str, issuer: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.local_process", target, issuer],
            env=os.environ | dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            cast("IO[str]", pipe).close()
        self._process.kill()
        self._process.wait(_PATIENCE)

    def say(self, tokens: Sequence[str]) -> list[str]:
        """Return the child's answer for each of these tokens."""
        to, from_ = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        to.writelines(f"{token}\n" for token in tokens)
        to.flush()
        return [from_.readline().rstrip("\n") for _ in tokens]


def _answer(verifier: LocalVerifier, token: str) -> str:
    try:
        said = verifier.verify(token, any_audience=True)
    except NotFreshError:
        return "not fresh"
    return said.reason if isinstance(said, Rejected) else ""


if __name__ == "__main__":
    with LocalVerifier(sys.argv[1], issuer=sys.argv[2]) as following:
        for line in sys.stdin:
            print(_answer(following, line.strip()), flush=True)  # noqa: T201  # to the process that asks
