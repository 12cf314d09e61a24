"""examples/services: the demonstration runs with a service over TLS, and leaves nothing behind."""

import json
import subprocess
import sys
from pathlib import Path

from identity_client.testing import ServiceUnderTest
from tests.examples.conftest import EXAMPLES, environment
from tests.patience import PATIENCE


def test_every_step_has_the_expected_result_and_no_principal_is_left(
    identity: ServiceUnderTest, tmp_path: Path
) -> None:
    clients = {client.client_id for client in identity.admin.list_clients()}
    secrets = {"admin_id": identity.admin_client_id, "admin_secret": identity.admin_client_secret}
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "demo.json").write_text(json.dumps(secrets))  # as `make run` does

    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "services" / "demo.py")],
        cwd=tmp_path,
        env=environment(identity, {}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert [line[0] for line in done.stdout.splitlines()] == list("12345")
    assert "Error" not in done.stderr
    assert {client.client_id for client in identity.admin.list_clients()} == clients
    assert list(identity.admin.list_users()) == []
