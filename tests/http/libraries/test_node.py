"""The npm packages openid-client, oauth4webapi and jose as clients. `node/flows.mjs` calls them."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.http.libraries.programs import Program, install_npm, require
from tests.http.libraries.provider import Provider
from tests.http.libraries.recipes import recipe
from tests.http.libraries.rotation import AT_ONCE, rotate_between

FOLDER = Path(__file__).parent / "node"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program `flows.mjs` with the libraries of the lock file, in a folder of this test process."""
    require("node", "npm")
    folder = install_npm(FOLDER, tmp_path_factory.mktemp("node"))
    (folder / "flows.mjs").write_bytes((FOLDER / "flows.mjs").read_bytes())
    return Program(command=["node", "flows.mjs"], cwd=folder)


@pytest.fixture
def program(installed: Program, provider: Provider) -> Program:
    holder = provider.new_certificate_client()
    return replace(
        installed,
        environment={"NODE_EXTRA_CA_CERTS": str(provider.ca_file)},
        more={
            "certificateClientId": "holder",
            "certificate": holder.certificate_file.read_text(),
            "certificateKey": holder.key_file.read_text(),
        },
    )


@pytest.fixture
def with_gateway(program: Program, provider: Provider) -> Program:
    """The program `flows.mjs`, which is also given the credentials of a client that may introspect tokens."""
    audience = provider.world.settings.service_audience
    client_id, secret = provider.new_client("gateway", audiences=(audience,))
    return replace(program, more={**program.more, "gatewayId": client_id, "gatewaySecret": secret})


@pytest.mark.parametrize(
    "method", ["client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth"]
)
def test_a_service_gets_asks_about_and_revokes_a_token(
    provider: Provider, program: Program, method: str
) -> None:
    said = program.run(provider, "service", method)

    assert (said["tokens"]["expires_in"], said["tokens"]["scope"]) == (900, "read")
    assert (said["before"]["active"], said["before"]["iss"]) == (True, provider.issuer)
    assert ("cnf" in said["before"]) == (method == "tls_client_auth")
    assert said["after"] == {"active": False}


@pytest.mark.parametrize("method", ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"])
def test_a_person_signs_in_refreshes_and_signs_out(provider: Provider, program: Program, method: str) -> None:
    said = program.run(provider, "person", method)

    assert said["lost"]["refresh_token"] != said["first"]["refresh_token"]
    assert said["again"]["refresh_token"] == said["lost"]["refresh_token"]
    assert said["ended"]["error"] == "invalid_grant"


def test_a_token_is_exchanged_for_one_that_names_the_actor(provider: Provider, program: Program) -> None:
    said = program.run(provider, "exchange")

    assert (said["active"], said["act"]["sub"]) == (True, "reports")
    assert said["sub"] != "reports"


def test_a_workload_gets_a_token_for_an_assertion_of_its_platform(
    provider: Provider, program: Program
) -> None:
    assert program.run(provider, "federated")["sub"] == provider.federated.client_id


def test_refusals_have_the_errors_of_the_standard(provider: Provider, program: Program) -> None:
    said = program.run(provider, "refusals")

    # oauth4webapi shows a 401 as its header WWW-Authenticate, without the error in the body.
    assert said.pop("client") == {"status": 401, "code": "OAUTH_WWW_AUTHENTICATE_CHALLENGE"}
    assert {name: found["error"] for name, found in said.items()} == {
        "scope": "invalid_scope",
        "resource": "invalid_target",
        "password": "invalid_grant",
        "refresh": "invalid_grant",
    }


def test_the_recipes_print_the_claims_of_a_token(provider: Provider, program: Program) -> None:
    assert program.cwd is not None
    (program.cwd / "recipe.mjs").write_text("\n".join(recipe("Node.js", provider)))
    (program.cwd / "holder.pem").write_text(program.more["certificate"])
    (program.cwd / "holder.key").write_text(program.more["certificateKey"])
    _, secret = provider.credentials
    environment = {**program.environment, "CLIENT_SECRET": secret}

    said = replace(program, command=["node", "recipe.mjs"], environment=environment).run(provider)

    assert (said["sub"], said["aud"], said["scope"]) == ("reports", [provider.audience], "read")


@pytest.mark.settings(**AT_ONCE)
@pytest.mark.parametrize("library", ["jose", "oauth4webapi"])
def test_a_library_verifies_before_and_after_a_rotation(
    provider: Provider, program: Program, library: str
) -> None:
    with program.verifying(provider, "verify", library) as verify:
        rotation = rotate_between(provider, verify)

    assert len(rotation.key_ids) == 2
    assert rotation.subjects == ["reports"] * 3


with_and_without_nonces = pytest.mark.parametrize(
    "provider",
    [False, pytest.param(True, marks=pytest.mark.settings(dpop_require_nonce=True))],
    ids=["no nonces", "nonces"],
    indirect=True,
)


@with_and_without_nonces
@pytest.mark.parametrize(("method", "algorithm"), [("none", "ES256"), ("client_secret_basic", "PS256")])
def test_a_person_gets_tokens_that_are_bound_to_a_key(
    provider: Provider, program: Program, method: str, algorithm: str
) -> None:
    said = program.run(provider, "boundPerson", method, algorithm)

    assert (said["first"]["token_type"], said["next"]["token_type"]) == ("dpop", "dpop")
    # A client with a credential may change its key, and may do without one.
    error = "invalid_dpop_proof" if method == "none" else None
    assert (said["stolen"]["error"], said["unproven"]["error"]) == (error, error)


@with_and_without_nonces
def test_a_service_asks_about_a_token_with_one_that_is_bound(
    provider: Provider, with_gateway: Program
) -> None:
    said = with_gateway.run(provider, "boundCaller", "ES256")

    assert said["own"]["token_type"] == "dpop"
    for answer in said["answers"]:
        assert (answer["active"], answer["token_type"], set(answer["cnf"])) == (True, "DPoP", {"jkt"})


@with_and_without_nonces
@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_resource_verifies_a_token_that_is_bound_to_a_key(
    provider: Provider, program: Program, algorithm: str
) -> None:
    said = program.run(provider, "boundResource", algorithm)

    assert said["tokens"]["token_type"] == "dpop"
    assert set(said["claims"]["cnf"]) == {"jkt"}
