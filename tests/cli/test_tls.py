"""The findings of `identity doctor` about certificates, and a service with those of `identity dev-certs`."""

import os
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.tls import Certifier, Holder

RunJson = Callable[..., Any]


@pytest.fixture
def certifier(tmp_path: Path) -> Certifier:
    return Certifier(tmp_path / "tls")


def environ(server: Holder, client_ca: Path) -> dict[str, str]:
    return {
        "IDENTITY_TLS_CERTIFICATE": str(server.certificate_file),
        "IDENTITY_TLS_KEY": str(server.key_file),
        "IDENTITY_TLS_CLIENT_CA": str(client_ca),
    }


@pytest.fixture
def findings(run: Run, run_json: RunJson, certifier: Certifier) -> Callable[..., dict[str, tuple[str, str]]]:
    """Return the doctor's findings about TLS: for each check, its result and advice."""
    run("init")

    def findings(server: Holder, *, code: int = 0) -> dict[str, tuple[str, str]]:
        lines = run_json("doctor", code=code, **environ(server, certifier.file))
        return {
            line["check"]: (line["result"], line["advice"])
            for line in lines
            if line["check"].startswith("TLS")
        }

    return findings


Findings = Callable[..., dict[str, tuple[str, str]]]


def private(server: Holder) -> Holder:
    server.key_file.chmod(0o600)
    return server


def test_the_doctor_is_content_with_certificates_that_fit(findings: Findings, certifier: Certifier) -> None:
    found = findings(private(certifier.server()))

    assert {check: result for check, (result, _) in found.items()} == {
        "TLS certificate": "ok",
        "TLS client authority": "ok",
    }
    assert "localhost, 127.0.0.1" in found["TLS certificate"][1]


def test_the_doctor_names_the_file_that_does_not_match(findings: Findings, certifier: Certifier) -> None:
    server = certifier.server()
    server.key_file.write_bytes(certifier.server("another").key_file.read_bytes())

    result, advice = findings(server, code=1)["TLS"]

    assert result == "FAIL"
    assert "server.key: the key does not belong to the certificate" in advice


def test_the_doctor_names_a_file_that_is_not_there(findings: Findings, certifier: Certifier) -> None:
    server = certifier.server()
    server.key_file.unlink()

    assert "tls_key: cannot read" in findings(server, code=1)["TLS"][1]


def test_the_doctor_warns_before_a_certificate_expires(findings: Findings, certifier: Certifier) -> None:
    result, advice = findings(private(certifier.server(lifetime=timedelta(minutes=10))))["TLS certificate"]

    assert result == "warn"
    assert "renew it" in advice


def test_the_doctor_fails_on_a_certificate_that_has_expired(findings: Findings, certifier: Certifier) -> None:
    late = private(certifier.server(lifetime=-timedelta(minutes=1)))

    assert findings(late, code=1)["TLS certificate"][0] == "FAIL"


def test_the_doctor_warns_of_a_key_that_others_may_read(findings: Findings, certifier: Certifier) -> None:
    server = certifier.server()
    server.key_file.chmod(0o644)

    result, advice = findings(server)["TLS key"]

    assert result == "warn"
    assert "chmod 600" in advice


def test_the_doctor_takes_a_key_that_the_kubelet_mounts_for_the_pod_s_group(
    findings: Findings, certifier: Certifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file belongs to root, and besides root only the group that `fsGroup` names can read it."""
    server, group = certifier.server(), 2000
    mounted = os.stat_result((stat.S_IFREG | 0o440, 1, 1, 1, 0, group, 1, 0, 0, 0))
    real = Path.stat
    monkeypatch.setattr(
        Path, "stat", lambda path, **how: mounted if path == server.key_file else real(path, **how)
    )
    monkeypatch.setattr(os, "getgroups", lambda: [0])
    assert findings(server)["TLS key"][0] == "warn"
    monkeypatch.setattr(os, "getgroups", lambda: [0, group])

    assert "TLS key" not in findings(server)


def test_certificates_for_trying_out_are_good_and_their_keys_private(
    run: Run, run_json: RunJson, tmp_path: Path
) -> None:
    run("init")
    run("dev-certs", "--folder", "certs")

    made = tmp_path / "certs"
    server = Holder(certificate_file=made / "server.pem", key_file=made / "server.key")
    lines = run_json("doctor", **environ(server, made / "ca.pem"))
    assert {line["result"] for line in lines} == {"ok"}
    assert {path.name for path in made.iterdir()} == {
        "ca.pem",
        "server.pem",
        "server.key",
        "client.pem",
        "client.key",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.glob("*.key")} == {0o600}


def test_certificates_that_are_made_again_replace_the_first_ones(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        run("dev-certs", "--folder", "certs")
    first = (tmp_path / "certs/server.key").read_bytes()

    run("dev-certs", "--folder", "certs")

    assert (tmp_path / "certs/server.key").read_bytes() != first
    assert stat.S_IMODE((tmp_path / "certs/server.key").stat().st_mode) == 0o600
