"""`identity token issue` without a secret: with a private key, a certificate, or a platform's token."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from identity_client import AssertionSigner
from identity_service.domain.ids import PrincipalId
from identity_service.domain.issuers import TrustedIssuer, TrustRule
from tests.cli.conftest import Run
from tests.jwts import PartyKey, assertion_claims, key_set
from tests.rpc.conftest import StartWorld, certifier, start_world
from tests.tls import Certifier

__all__ = ["certifier", "start_world"]
KEY = PartyKey.make("ES256", "k1")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(json.loads(KEY.private_jwk) | {"kid": KEY.key_id}))
    return path


def test_by_a_private_key(start_world: StartWorld, run: Run, key_file: Path) -> None:
    world = start_world(issuer="https://id.example")
    world.new_client(public=True, public_keys=(AssertionSigner.from_file("reports", key_file).public_jwk(),))
    words = ("token", "issue", "--client-id", "reports", "--assertion-key", str(key_file))
    target = ("--target", world.target, "--print", "access_token")

    printed = run(*words, *target, "--service-issuer", "https://id.example").stdout.strip()

    assert world.reason(printed) == ""
    assert "refused" in run(*words, *target, code=3).stderr


def test_by_a_platforms_token(start_world: StartWorld, run: Run, tmp_path: Path) -> None:
    world = start_world()
    world.new_client(public=True)
    rule = TrustRule(claims={"sub": "job"}, client_id=PrincipalId("reports"))
    issuer = TrustedIssuer(issuer="https://ci.example", jwks=key_set(KEY.public()), rules=(rule,))
    world.store_admin.administrator.issuers.create(issuer)
    world.verify("x", strong=True)
    path = tmp_path / "token"
    claims = assertion_claims("", datetime.now(UTC), iss="https://ci.example", sub="job")
    path.write_text(KEY.jwt(claims) + "\n")

    words = ("token", "issue", "--federated-token-file", str(path), "--target", world.target)
    printed = run(*words, "--print", "access_token").stdout.strip()

    assert world.reason(printed) == ""


def test_by_the_certificate_of_the_connection(
    start_world: StartWorld, run: Run, certifier: Certifier
) -> None:
    server, holder = certifier.server(), certifier.client("c", "reports.example")
    world = start_world(
        tls_certificate=server.certificate_file, tls_key=server.key_file, tls_client_ca=certifier.file
    )
    world.new_client(public=True, certificates=("dns:reports.example",))
    files = ("--cert", str(holder.certificate_file), "--key", str(holder.key_file))
    where = ("--target", world.target, "--ca", str(certifier.file))

    tokens = json.loads(run("token", "issue", "--certificate", *files, *where, "--json").stdout)

    assert tokens["scopes"] == ["read", "write"]


def test_usage_errors_contain_no_part_of_a_key(run: Run, tmp_path: Path) -> None:
    secret, binary = tmp_path / "secret", tmp_path / "binary"
    secret.write_text("-----BEGIN PRIVATE" + " KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    binary.write_bytes(b"\xff\xfe")
    issue = ("token", "issue")

    assert "--client-id" in run(*issue, "--assertion-key", str(secret), code=2).stderr
    run(*issue, "--certificate", "--federated-token-file", str(secret), code=2)
    run(*issue, "--federated-token-file", str(tmp_path / "none"), code=2)
    run(*issue, "--federated-token-file", str(binary), code=2)
    wrong = run(*issue, "--client-id", "x", "--assertion-key", str(secret), code=2)
    assert "c2VjcmV0" not in wrong.output
