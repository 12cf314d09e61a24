"""The error of a command whose service does not answer in time names the service and a remedy."""

import socket
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from identity_service.cli import remote
from identity_service.cli.app import app
from identity_service.process.exit_codes import Exit


def test_a_service_that_does_not_answer_in_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PATIENCE", timedelta(seconds=1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"

        run = CliRunner().invoke(app, ["token", "verify", "a.b.c", "--audience", "api", "--target", target])

    assert run.exit_code == Exit.UNAVAILABLE
    assert f"the service at {target} did not answer within 1 s" in run.stderr
    assert "look before you repeat it" in run.stderr
