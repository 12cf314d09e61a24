"""go-oidc and golang.org/x/oauth2 as clients: `go/main.go` calls them, unchanged."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.http.libraries.programs import run_program
from tests.http.libraries.provider import Provider
from tests.patience import PATIENCE

FOLDER = Path(__file__).parent / "go"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with the libraries of go.sum; it takes a minute to build for the first time."""
    built = tmp_path_factory.mktemp("go") / "library-tests"
    command = ["go", "build", "-mod=readonly", "-o", str(built), "."]
    subprocess.run(command, cwd=FOLDER, check=True, capture_output=True, timeout=20 * PATIENCE)
    return built


def run(provider: Provider, program: Path, flow: str) -> Any:
    environment = {"SSL_CERT_FILE": str(provider.ca_file), "SSL_CERT_DIR": "/nonexistent"}
    return run_program(provider, [program, flow], environment=environment)


def test_a_service_gets_a_token_that_go_oidc_verifies(provider: Provider, program: Path) -> None:
    said = run(provider, program, "service")

    assert said["tokenType"] == "Bearer"
    assert (said["claims"]["sub"], said["claims"]["scope"]) == ("reports", "read")


def test_a_person_signs_in_and_refreshes(provider: Provider, program: Path) -> None:
    said = run(provider, program, "person")

    assert said["rotated"] is True
    assert said["claims"]["client_id"] == "app"


def test_refusals_have_the_errors_of_the_standard(provider: Provider, program: Path) -> None:
    assert run(provider, program, "refusals") == {
        "client": "invalid_client",
        "scope": "invalid_scope",
        "password": "invalid_grant",
    }
