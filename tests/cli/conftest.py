"""Runs commands of `identity` in this process, in an empty folder, and restores the log's configuration."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

from identity_service.cli.app import app
from identity_service.telemetry import logs
from tests.e2e.process import CHEAP_PASSWORDS, MASTER_KEY, Installation, Running

Run = Callable[..., Result]
RunJson = Callable[..., Any]
PASSWORD = "correct horse battery staple"


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running service, and the secret of its first administrator."""

    running: Running
    client_id: str
    client_secret: str

    @property
    def target(self) -> str:
        return self.running.target

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment of a command that calls the service as the administrator."""
        return {
            "IDENTITY_TARGET": self.target,
            "IDENTITY_CLIENT_ID": self.client_id,
            "IDENTITY_CLIENT_SECRET": self.client_secret,
        }


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep the log of a service in this process out of the output of commands."""
    logs.configure("error", "json")
    yield
    structlog.reset_defaults()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    environ = {
        "IDENTITY_STORE": f"sqlite:///{tmp_path}/identity.db",
        "IDENTITY_LISTEN": "127.0.0.1:0",
        "IDENTITY_MASTER_KEY": MASTER_KEY,
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }
    for name, value in (environ | CHEAP_PASSWORDS).items():
        monkeypatch.setenv(name, value)

    def run(*words: str, code: int = 0, stdin: str = "", **env: str) -> Result:
        result = CliRunner().invoke(app, list(words), input=stdin, env=env)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def run_json(run: Run) -> Callable[..., Any]:
    def run_json(*words: str, **options: Any) -> Any:
        return json.loads(run(*words, "--json", **options).stdout)

    return run_json


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One service for all tests of a module; each test uses names of its own for its records."""
    folder = tmp_path_factory.mktemp("served")
    installation = Installation(folder=folder, store=f"sqlite:///{folder}/identity.db", forked=True)
    admin = installation.init()
    with installation.serve() as running:
        yield Served(running=running, client_id=admin["client_id"], client_secret=admin["client_secret"])


@pytest.fixture
def admin(run: Run, served: Served) -> Run:
    """Return a function that runs a command as the first administrator of the service."""

    def as_admin(*words: str, **options: Any) -> Result:
        return run(*words, **(served.environ | options))

    return as_admin


@pytest.fixture
def admin_json(admin: Run) -> RunJson:
    def as_admin(*words: str, **options: Any) -> Any:
        return json.loads(admin(*words, "--json", **options).stdout)

    return as_admin
