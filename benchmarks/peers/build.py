"""Builds the peers that are not written in Python. If a tool is missing, the peer is left out.

The results are beside the sources, in directories that git ignores, and are built again if they are older
than the sources.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.processes import BenchmarkError

_HERE: Final = Path(__file__).parent
_PROTOS: Final = _HERE.parents[1] / "protos"
_GO: Final = _HERE / "go_verify"
_NODE: Final = _HERE / "node_oidc"
_GO_MODULE: Final = "benchmarks/go_verify"
_GO_STUBS: Final = f"{_GO_MODULE}/build/identityapi/v1"
_GO_PLUGINS: Final = {
    "go": "google.golang.org/protobuf/cmd/protoc-gen-go",
    "go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
}
_STUBS_OF: Final = ("identityapi/v1/identity_service.proto", "identityapi/v1/token.proto")
_SECONDS: Final = 600.0


def go_verify() -> Path:
    """Build the grpc-go peer, and return its path. Raises BenchmarkError if it cannot be built."""
    go, program = _require("go"), _GO / "build" / "go_verify"
    sources = [*_GO.glob("*.go"), _GO / "go.mod", _GO / "go.sum", *(_PROTOS / name for name in _STUBS_OF)]
    if _is_newer(program, sources):
        return program
    _run([go, "build", "-o", "build/", *_GO_PLUGINS.values()], _GO)
    _run(_stub_command(), _PROTOS)
    _run([go, "build", "-o", str(program), "."], _GO)
    return program


def node_oidc() -> Sequence[str]:
    """Install the oidc-provider peer, and return its command. Raises BenchmarkError if that fails."""
    node, npm = _require("node"), _require("npm")
    installed = _NODE / "node_modules" / ".package-lock.json"
    if not _is_newer(installed, [_NODE / "package-lock.json"]):
        _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], _NODE)
        installed.touch()
    return (node, str(_NODE / "server.js"))


def _stub_command() -> Sequence[str]:
    """Return the command of protoc, with the Go package of each file (M flags)."""
    packages = [f"M{name}={_GO_STUBS}" for name in _STUBS_OF]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "."]
    for kind in _GO_PLUGINS:
        command += [
            f"--plugin=protoc-gen-{kind}={_GO / 'build' / f'protoc-gen-{kind}'}",
            f"--{kind}_out={_GO}",
            f"--{kind}_opt={','.join([f'module={_GO_MODULE}', *packages])}",
        ]
    return [*command, *_STUBS_OF]


def _require(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        raise BenchmarkError(f"{tool} is not installed")
    return found


def _is_newer(made: Path, sources: Sequence[Path]) -> bool:
    return made.exists() and all(made.stat().st_mtime >= source.stat().st_mtime for source in sources)


def _run(command: Sequence[str], directory: Path) -> None:
    run = subprocess.run(
        command,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    if run.returncode:
        name = Path(command[0]).name
        raise BenchmarkError(f"{name} {command[1]} failed:\n{(run.stdout + run.stderr)[-1000:]}")
