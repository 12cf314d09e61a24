"""The Go libraries go-oidc and golang.org/x/oauth2 as clients. The program `go/main.go` calls them."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.http.libraries.programs import Program, build_go, require
from tests.http.libraries.provider import Provider
from tests.http.libraries.recipes import recipe
from tests.http.libraries.rotation import AT_ONCE, rotate_between

FOLDER = Path(__file__).parent / "go"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The Go program with the library versions of go.sum. Its first build takes about a minute."""
    require("go")
    return Program(command=[build_go(FOLDER, tmp_path_factory.mktemp("go"))])


@pytest.fixture
def program(built: Program, provider: Provider) -> Program:
    environment = {"SSL_CERT_FILE": str(provider.ca_file), "SSL_CERT_DIR": "/nonexistent"}
    return replace(built, environment=environment)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_service_gets_a_token_that_go_oidc_verifies(
    provider: Provider, program: Program, method: str
) -> None:
    said = program.run(provider, "service", method)

    assert said["tokenType"] == "Bearer"
    assert (said["claims"]["sub"], said["claims"]["scope"]) == ("reports", "read")


@pytest.mark.parametrize(
    ("method", "client_id"),
    [("none", "app"), ("client_secret_basic", "reports"), ("client_secret_post", "reports")],
)
def test_a_person_signs_in_and_repeats_a_refresh_whose_answer_was_lost(
    provider: Provider, program: Program, method: str, client_id: str
) -> None:
    said = program.run(provider, "person", method)

    assert said["lost"] not in ("", said["first"])
    assert said["again"] == said["lost"]
    assert said["claims"]["client_id"] == client_id


def test_a_workload_gets_a_token_for_an_assertion_of_its_platform(
    provider: Provider, program: Program
) -> None:
    assert program.run(provider, "federated")["claims"]["sub"] == provider.federated.client_id


def test_refusals_have_the_errors_of_the_standard(provider: Provider, program: Program) -> None:
    assert program.run(provider, "refusals") == {
        "client": "invalid_client",
        "scope": "invalid_scope",
        "password": "invalid_grant",
    }


def test_the_recipe_prints_the_subject_of_a_token(
    provider: Provider, program: Program, tmp_path: Path
) -> None:
    for name in ("go.mod", "go.sum"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    (code,) = recipe("Go", provider)
    (tmp_path / "main.go").write_text(code)
    _, secret = provider.credentials
    environment = {**program.environment, "CLIENT_SECRET": secret}

    said = replace(program, command=[build_go(tmp_path, tmp_path)], environment=environment).run(provider)

    assert said == "reports"


@pytest.mark.settings(**AT_ONCE)
def test_go_oidc_verifies_before_and_after_a_rotation(provider: Provider, program: Program) -> None:
    with program.verifying(provider, "verify") as verify:
        rotation = rotate_between(provider, verify)

    assert len(rotation.key_ids) == 2
    assert rotation.subjects == ["reports"] * 3
