"""The Istio manifests in docs/integrations.md: the Go types of Istio's API decode them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.recipes import sections
from tests.http.libraries.programs import build_go, require
from tests.patience import PATIENCE

FOLDER = Path(__file__).parent / "istio"
MANIFESTS: list[tuple[str, Any]] = [
    (manifest["kind"], manifest["spec"]) if "kind" in manifest else ("MeshConfig", manifest["meshConfig"])
    for block in sections("integrations.md", ("yaml",))["Istio"]
    for manifest in yaml.safe_load_all(block.code)
]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program that decodes manifests, with the library version of go.sum."""
    require("go")
    return build_go(FOLDER, tmp_path_factory.mktemp("istio"))


def decode(program: Path, kind: str, spec: Any) -> str:
    """Return the error with which Istio's Go library refuses a spec of this kind; empty if none."""
    done = subprocess.run(
        [program, kind],
        input=json.dumps(spec),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stderr


def test_both_ways_are_there() -> None:
    assert [kind for kind, _ in MANIFESTS] == [
        *("RequestAuthentication", "AuthorizationPolicy"),
        *("MeshConfig", "AuthorizationPolicy", "EnvoyFilter"),
    ]


@pytest.mark.parametrize(("kind", "spec"), MANIFESTS)
def test_istio_knows_every_field_of_a_manifest(program: Path, kind: str, spec: Any) -> None:
    assert decode(program, kind, spec) == ""
    assert "unknown field" in decode(program, kind, {**spec, "invented": 1})
