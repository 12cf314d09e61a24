"""The fork server: a command that it runs behaves like one for which Python was started."""

import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.descendants import command_line
from tests.e2e.process import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path, "sqlite:///identity.db", forked=True)


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (["--version"], ""),
        (["serve", "--nonsense"], ""),
        (["doctor"], ""),
        (["token", "verify", "-"], "no token\n"),
        (["config", "show"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_has_the_same_output_and_exit_code(
    installation: Installation, words: list[str], stdin: str
) -> None:
    installation.environment["IDENTITY_LEEWAY"] = "7s"

    ours = installation.run(*words, stdin=stdin)

    other = replace(installation, forked=False).run(*words, stdin=stdin)
    assert (ours.returncode, ours.stdout, ours.stderr) == (other.returncode, other.stdout, other.stderr)


def test_it_works_in_its_folder_with_its_environment_alone(installation: Installation) -> None:
    installation.init()

    assert (installation.folder / "identity.db").exists()
    assert installation.run("doctor", IDENTITY_STORE="sqlite:///other.db").returncode != 0
    assert installation.run("doctor").returncode == 0


def test_its_process_is_waited_for_and_killed_as_any_other(installation: Installation) -> None:
    installation.init()
    with installation.serve() as service:
        assert service.process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            service.process.wait(0.01)
        assert service.terminate() == 0
    with installation.serve() as service:
        service.kill()
        assert service.process.returncode == -signal.SIGKILL
        assert not command_line(service.process.pid)


def test_several_processes_run_at_once(installation: Installation) -> None:
    installation.init()
    with installation.serve() as first, installation.serve() as second:
        assert first.process.pid != second.process.pid
        assert first.terminate() == second.terminate() == 0
