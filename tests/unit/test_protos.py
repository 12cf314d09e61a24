"""The protos stay compatible with those of the last release, and name the packages of each language."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from identityapi.v1 import access_pb2
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"


def _buf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "buf", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def _breaking(protos: Path) -> subprocess.CompletedProcess[str]:
    """Compare the protos with the baseline of the last release, as `make check` does.

    The baseline may have additions that no release has yet.
    """
    return _buf("breaking", protos, "--against", PROTOS / "baseline.yaml")


def test_the_protos_are_compatible_with_the_last_release() -> None:
    compared = _breaking(PROTOS)

    assert compared.returncode == 0, compared.stdout + compared.stderr


@pytest.mark.parametrize(
    ("file", "before", "after", "named"),
    [
        ("principal", "string encryption_key = 16;", "string encryption_key = 1000;", '"encryption_key"'),
        ("principal", "string encryption_key = 16;", "bytes encryption_key = 16;", '"encryption_key"'),
        ("principal", "string encryption_key = 16;", "string recipient_key = 16;", '"encryption_key"'),
        (
            "principal",
            "string encryption_key = 16;",
            'string encryption_key = 16 [json_name = "key"];',
            '"encryption_key"',
        ),
        ("token", "  string session_id = 9;\n", "", '"session_id"'),
        ("error_reason", "REASON_STALE_ETAG = 122", "REASON_STALE_ETAG = 1000", '"ERROR_REASON_STALE_ETAG"'),
        ("trust_service", "returns (stream WatchResponse)", "returns (WatchResponse)", '"Watch"'),
        ("trust_service", "  rpc GetKeys(GetKeysRequest) returns (GetKeysResponse);\n", "", '"GetKeys"'),
        ("identity_service", "service IdentityService", "service TokenService", '"IdentityService"'),
    ],
    ids=[
        "the number of a field",
        "the type of a field",
        "the name of a field",
        "the name of a field in JSON",
        "a deleted field",
        "the number of an enum value",
        "a stream",
        "a deleted method",
        "the name of a service",
    ],
)
def test_a_change_that_breaks_clients_is_refused_by_name(
    tmp_path: Path, file: str, before: str, after: str, named: str
) -> None:
    protos = shutil.copytree(PROTOS, tmp_path / "protos")
    changed = protos / "identityapi" / "v1" / f"{file}.proto"
    text = changed.read_text()
    assert text.count(before) == 1
    changed.write_text(text.replace(before, after))

    compared = _breaking(protos)

    assert compared.returncode != 0
    assert named in compared.stdout
    assert changed.name in compared.stdout


def test_code_for_other_languages_gets_the_published_packages() -> None:
    """One file is enough: buf lint requires the same packages in all of them."""
    options = access_pb2.DESCRIPTOR.GetOptions()

    assert options.go_package == "github.com/identity-service/identity-service/clients/go/identityapi/v1"
    assert options.java_package == "io.github.identityservice.identityapi.v1"
    assert options.java_multiple_files
    assert options.csharp_namespace == "IdentityApi.V1"
