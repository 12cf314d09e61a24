"""Runs commands of `identity` in this process, in an empty folder, and puts the log back afterwards."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

from identity_service import logs
from identity_service.cli.app import app
from tests.e2e.process import CHEAP_PASSWORDS, MASTER_KEY

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A service in this process would log between what a command prints."""
    logs.configure("error", "json")
    yield
    structlog.reset_defaults()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    environ = {
        "IDENTITY_STORE": f"sqlite:///{tmp_path}/identity.db",
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
