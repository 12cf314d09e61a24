"""The program `identity` whose commands the fork server runs: it behaves like the installed program."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.docs.recipes import INSTALLED
from tests.patience import PATIENCE, until

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "IDENTITY_STORE": "sqlite:///identity.db", "IDENTITY_LEEWAY": "7s"}


def start(
    program: Path, folder: Path, *words: str, environment: dict[str, str] = ENVIRONMENT
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [program, *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (["doctor"], ""),
        (["token", "verify", "-"], "no token\n"),
        (["config", "show"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_has_the_same_output_and_exit_code(
    identity: Path, tmp_path: Path, words: list[str], stdin: str
) -> None:
    ours, others = (start(program, tmp_path, *words) for program in (identity, INSTALLED))

    assert ours.communicate(stdin, PATIENCE) == others.communicate(stdin, PATIENCE)
    assert ours.returncode == others.returncode


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, -signal.SIGHUP)])
def test_a_signal_ends_it_as_it_ends_the_command(
    identity: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start(identity, tmp_path, "serve", "--dev", "--listen", "127.0.0.1:0")
    log = process.stderr
    assert log is not None
    until(lambda: "serving on" in log.readline())

    process.send_signal(number)
    process.communicate(timeout=PATIENCE)

    assert process.returncode == code
