"""openid-client, oauth4webapi and jose as clients: `node/flows.mjs` calls them, unchanged."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.http.libraries.programs import run_program
from tests.http.libraries.provider import Provider
from tests.jwts import PartyKey
from tests.patience import PATIENCE

FOLDER = Path(__file__).parent / "node"
KEY = PartyKey.make("ES256", "k1")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the libraries of the lock file are installed; each process has its own."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "flows.mjs"):
        (folder / name).write_bytes((FOLDER / name).read_bytes())
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    subprocess.run(
        ["npm", "ci", *options], cwd=folder, check=True, capture_output=True, timeout=10 * PATIENCE
    )
    return folder


def run(provider: Provider, folder: Path, *flow: str) -> Any:
    return run_program(
        provider,
        ["node", "flows.mjs", *flow],
        cwd=folder,
        environment={"NODE_EXTRA_CA_CERTS": str(provider.ca_file)},
        more={
            "keyClientId": provider.new_key_client(KEY),
            "privateJwk": json.loads(KEY.private_jwk) | {"alg": KEY.algorithm},
        },
    )


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "private_key_jwt"])
def test_a_service_gets_asks_about_and_revokes_a_token(
    provider: Provider, installed: Path, method: str
) -> None:
    said = run(provider, installed, "service", method)

    assert (said["tokens"]["expires_in"], said["tokens"]["scope"]) == (900, "read")
    assert (said["before"]["active"], said["before"]["iss"]) == (True, provider.issuer)
    assert said["after"] == {"active": False}


@pytest.mark.parametrize("method", ["none", "client_secret_basic"])
def test_a_person_signs_in_refreshes_and_signs_out(provider: Provider, installed: Path, method: str) -> None:
    said = run(provider, installed, "person", method)

    assert said["lost"]["refresh_token"] != said["first"]["refresh_token"]
    assert said["again"]["refresh_token"] == said["lost"]["refresh_token"]
    assert said["ended"]["error"] == "invalid_grant"


def test_refusals_have_the_errors_of_the_standard(provider: Provider, installed: Path) -> None:
    said = run(provider, installed, "refusals")

    # oauth4webapi shows a 401 as its header WWW-Authenticate, without the error in the body.
    assert said.pop("client") == {"status": 401, "code": "OAUTH_WWW_AUTHENTICATE_CHALLENGE"}
    assert {name: found["error"] for name, found in said.items()} == {
        "scope": "invalid_scope",
        "resource": "invalid_target",
        "password": "invalid_grant",
        "refresh": "invalid_grant",
    }


def test_a_token_is_verified_by_the_published_keys(provider: Provider, installed: Path) -> None:
    said = run(provider, installed, "verified")

    for claims in (said["byOauth4webapi"], said["byJose"]):
        assert (claims["sub"], claims["aud"], claims["client_id"]) == (
            "reports",
            [provider.audience],
            "reports",
        )
