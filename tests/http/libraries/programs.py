"""Runs a program of another language that calls OAuth libraries: its input and its answer are JSON."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.http.libraries.provider import Provider
from tests.patience import PATIENCE


def run_program(
    provider: Provider,
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str],
    more: Mapping[str, object] | None = None,
) -> Any:
    """Return what a program prints; it is given the issuer, the credentials, and `more`."""
    client_id, client_secret = provider.credentials
    given = {
        "issuer": provider.issuer,
        "audience": provider.audience,
        "clientId": client_id,
        "clientSecret": client_secret,
        "publicClientId": provider.new_public_client(),
        "username": provider.username,
        "password": provider.password,
        **(more or {}),
    }
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
