"""The served OpenAPI description: it is valid and complete, and the service behaves as it says."""

import os
import subprocess
import sys
from base64 import b64encode
from datetime import timedelta
from pathlib import Path

import pytest

from tests.http.site import Site
from tests.patience import PATIENCE

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.timeout(1800)  # some ten seconds of a processor, which a busy machine may stretch by far
@pytest.mark.settings(attempts_per_peer=0, request_timeout=timedelta(seconds=PATIENCE))
def test_every_answer_is_as_described(site: Site, tmp_path: Path) -> None:
    client = site.world.new_client(scopes=("read", "identity.verify"))
    secret = client.credential.client_secret
    basic = b64encode(f"{secret.client_id}:{secret.client_secret}".encode()).decode()
    url = f"http://{site.target}"
    command = ("schemathesis.cli", "--config-file", str(CONFIG), "run", "--no-color")
    run = subprocess.run(
        [sys.executable, "-m", *command, f"{url}/openapi.json", "--url", url],
        cwd=tmp_path,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "CLIENT_SECRET_BASIC": f"Basic {basic}",
            "ISSUER": site.world.settings.issuer,
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
