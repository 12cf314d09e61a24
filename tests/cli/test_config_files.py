"""`identity config check` and `identity doctor` on the files that settings name."""

from pathlib import Path
from typing import Final

import pytest

from tests.cli.conftest import Run, RunJson
from tests.tls import Certifier

_SERVER: Final = "https://keys.example"
_SETTINGS: Final = {
    "tls_client_ca": "{}",
    "tls_certificate": "{}",
    "tls_key": "{}",
    "issuer_ca_file": "{}",
    "jwks_servers: ca_file": f'[{{{{"url": "{_SERVER}", "ca_file": "{{}}"}}}}]',
    "jwks_servers: token_file": f'[{{{{"url": "{_SERVER}", "token_file": "{{}}"}}}}]',
    "master_key_file": "{}",
    "other_master_key_file": "{}",
    "principals_file": "{}",
    "ext_authz_descriptors": "{}",
}
"""The settings that name files, with a template of the value for a path."""


@pytest.fixture(autouse=True)
def _tls(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the other TLS files to valid ones."""
    assert run is not None  # the environment is its own
    server = Certifier(tmp_path / "tls").server()
    monkeypatch.setenv("IDENTITY_TLS_CERTIFICATE", str(server.certificate_file))
    monkeypatch.setenv("IDENTITY_TLS_KEY", str(server.key_file))


def variables(setting: str, path: Path) -> dict[str, str]:
    name = setting.partition(":")[0].upper()
    return {f"IDENTITY_{name}": _SETTINGS[setting].format(path)}


@pytest.mark.parametrize("setting", _SETTINGS)
def test_a_file_that_is_missing_is_named_with_its_setting(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str
) -> None:
    if setting == "master_key_file":
        monkeypatch.delenv("IDENTITY_MASTER_KEY")
    missing = tmp_path / "missing"

    said = run("config", "check", code=1, **variables(setting, missing)).stderr

    assert said.startswith(f"identity: {setting}")
    assert f"{missing}" in said
    assert "No such file" in said


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("tls_client_ca", "certificate"),
        ("tls_certificate", "certificate"),
        ("tls_key", "key"),
        ("issuer_ca_file", "it holds no certificate"),
        ("jwks_servers: ca_file", "it holds no certificate"),
        ("jwks_servers: token_file", "must hold one token"),
        ("other_master_key_file", "32 characters"),
        ("principals_file", "clients"),
        ("ext_authz_descriptors", "is not a FileDescriptorSet"),
    ],
)
def test_a_file_with_another_content_is_named(run: Run, tmp_path: Path, setting: str, why: str) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("nothing of it")
    wrong.chmod(0o600)

    said = run("config", "check", code=1, **variables(setting, wrong)).stderr

    assert str(wrong) in said or setting == "other_master_key_file"
    assert why in said


def test_a_folder_of_the_store_that_is_missing_is_named(run: Run, tmp_path: Path) -> None:
    said = run("config", "check", code=1, IDENTITY_STORE=f"sqlite:///{tmp_path}/missing/identity.db").stderr

    assert said.startswith(f"identity: store: there is no folder {tmp_path}/missing; create it")


def test_a_store_that_is_not_set_needs_no_folder_yet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IDENTITY_STORE")

    run("config", "check")


def test_all_files_that_are_wrong_are_reported_at_once(run: Run, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    names = ("tls_client_ca", "issuer_ca_file", "principals_file", "ext_authz_descriptors")
    wrong = {name: value for each in names for name, value in variables(each, missing).items()}

    said = run("config", "check", code=1, **wrong).stderr.splitlines()

    assert [line.split(": ")[1] for line in said] == list(names)


def test_files_that_can_be_used_pass(run_json: RunJson, tmp_path: Path) -> None:
    (tmp_path / "principals.yaml").write_text("clients: {}\n")
    authority = Certifier(tmp_path / "clients").file

    assert run_json(
        "config",
        "check",
        IDENTITY_TLS_CLIENT_CA=str(authority),
        IDENTITY_ISSUER_CA_FILE=str(authority),
        IDENTITY_PRINCIPALS_FILE="principals.yaml",
    ) == {"valid": True}


@pytest.mark.parametrize("setting", ["principals_file", "ext_authz_descriptors"])
def test_doctor_reports_them_as_well(run_json: RunJson, tmp_path: Path, setting: str) -> None:
    report = run_json("doctor", code=1, **variables(setting, tmp_path / "missing"))

    (found,) = (line for line in report if line["check"] == setting)
    assert found["result"] == "FAIL"
    assert found["advice"].startswith(f"{setting}: cannot read {tmp_path / 'missing'}")


def test_settings_without_a_master_key_are_valid_and_the_check_says_that_the_service_needs_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No master key" not in run("config", "check").stderr

    monkeypatch.delenv("IDENTITY_MASTER_KEY")
    assert "IDENTITY_MASTER_KEY_FILE" in run("config", "check").stderr
