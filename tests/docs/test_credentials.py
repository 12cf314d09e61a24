"""docs/credentials.md: each of its recipes works against a real service, with stand-ins for the platforms."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.docs.reader import Reader, claims
from tests.docs.recipes import link_program, put_program, sections
from tests.jwts import PartyKey, assertion_claims, key_set
from tests.ports import reserve_address
from tests.rpc.conftest import StartWorld, certifier, start_world
from tests.rpc.world import PASSWORD
from tests.tls import Certifier

__all__ = ["certifier", "start_world"]

PAGE = sections("credentials.md")
MTLS_TARGET = "127.0.0.1:50052"
SUBJECTS = {
    "Client secret": "reports",
    "Password": None,
    "Client assertion": "reports",
    "Client certificate": "reports",
    "Kubernetes": "reports",
    "SPIFFE": "reports",
}
"""The subject of the tokens of each section with recipes. None stands for a user, whose id is generated."""


@pytest.fixture
def reader(start_world: StartWorld, tmp_path: Path, identity: Path) -> Reader:
    folder = tmp_path / "reader"
    folder.mkdir()
    link_program(folder, identity)
    return Reader(page=PAGE, world=start_world(), folder=folder)


@pytest.fixture
def reader_over_tls(start_world: StartWorld, certifier: Certifier, tmp_path: Path, identity: Path) -> Reader:
    folder = tmp_path / "reader"
    (folder / "tls").mkdir(parents=True)
    link_program(folder, identity)
    server, client = certifier.server(), certifier.client("reports", "reports.example")
    for name, path in (
        ("ca.pem", certifier.file),
        ("client.pem", client.certificate_file),
        ("client.key", client.key_file),
    ):
        (folder / "tls" / name).write_bytes(path.read_bytes())
    mutual = reserve_address()
    world = start_world(
        tls_certificate=server.certificate_file,
        tls_key=server.key_file,
        tls_client_ca=certifier.file,
        mtls_listen=mutual,
    )
    return Reader(
        page=PAGE,
        world=world,
        folder=folder,
        environment={"IDENTITY_CA": "tls/ca.pem"},
        places={MTLS_TARGET: mutual},
    )


def check(tokens: list[str], section: str) -> None:
    """Check that there is a token from the command line and one from Python, for the recipe's subject."""
    assert len(tokens) == 2
    for said in map(claims, tokens):
        assert said["aud"] == ["api"]
        assert said["scope"] == "read"
        subject = SUBJECTS[section]
        assert said["sub"] == subject if subject is not None else str(said["sub"]).startswith("u_")


def put_platform_token(reader: Reader, place: str, *, issuer: str, subject: str, key: PartyKey) -> None:
    """Write a token of the platform to a file, and replace the path on the page by that of the file."""
    values = assertion_claims(
        "", datetime.now(UTC), exp=3600, iss=issuer, sub=subject, aud=["identity-service"]
    )
    here = reader.folder / Path(place).name
    here.write_text(key.jwt(values) + "\n")
    reader.places[place] = str(here)


def test_client_secret(reader: Reader) -> None:
    check(reader.follow("Client secret"), "Client secret")


def test_password(reader: Reader) -> None:
    (reader.folder / "ana.password").write_text(PASSWORD)

    check(reader.follow("Password"), "Password")


def test_client_assertion(reader: Reader) -> None:
    check(reader.follow("Client assertion"), "Client assertion")


def test_client_certificate(reader_over_tls: Reader) -> None:
    tokens = reader_over_tls.follow("Client certificate")

    check(tokens, "Client certificate")
    assert all("cnf" in claims(token) for token in tokens)


def test_kubernetes(reader: Reader) -> None:
    key = PartyKey.make("RS256", "cluster-key")
    put_program(reader.folder, "kubectl", key_set(key.public()))
    put_platform_token(
        reader,
        "/var/run/secrets/identity/token",
        issuer="https://kubernetes.default.svc.cluster.local",
        subject="system:serviceaccount:billing:reports",
        key=key,
    )

    check(reader.follow("Kubernetes"), "Kubernetes")


def test_token_exchange(reader: Reader) -> None:
    (reader.folder / "ana.password").write_text(PASSWORD)

    tokens = reader.follow("Token exchange")

    assert len(tokens) == 2
    for said in map(claims, tokens):
        assert (said["aud"], said["scope"], said["client_id"]) == (["stock"], "read", "orders")
        assert str(said["sub"]).startswith("u_")
        assert said["act"] == {"sub": "orders", "client_id": "orders"}


def test_spiffe(reader: Reader) -> None:
    key = PartyKey.make("ES256", "authority-1")
    put_program(reader.folder, "spire-server", key_set(key.public(use="jwt-svid", alg=None)))
    put_platform_token(
        reader,
        "/run/spire/identity.jwt",
        issuer="https://spire.example.org",
        subject="spiffe://example.org/billing/reports",
        key=key,
    )

    check(reader.follow("SPIFFE"), "SPIFFE")


def test_every_section_with_a_recipe_is_tried_here() -> None:
    assert {section for section, blocks in PAGE.items() if blocks} == {*SUBJECTS, "Token exchange"}
