"""The committed Python stubs are up to date with the protos."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import google.rpc
import pytest
from packaging.requirements import Requirement

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "clients" / "python"
PACKAGE = Path("identityapi") / "v1"
OLDEST = ROOT / ".venv-oldest" / "bin" / "python"
WIRE = Path("identity_service/grpc_api/ext_authz/wire")


def _stubs(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / PACKAGE).glob("*_pb2*") if path.is_file()}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run the commands of `make proto` into a temporary folder; return the folder."""
    if not OLDEST.exists():
        pytest.skip(
            "needs the compiler in .venv-oldest: run `make .venv-oldest/.installed` with Python 3.13 or older"
        )
    out = tmp_path_factory.mktemp("stubs")
    plugin = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
    _compile(str(OLDEST), f"--python_out={out}", f"--grpc_python_out={out}")
    types = f"--plugin=protoc-gen-mypy_grpc={plugin}", f"--mypy_grpc_out=quiet:{out}"
    _compile(sys.executable, f"--pyi_out={out}", *types)
    return _stubs(out)


def _compile(python: str, *options: str) -> None:
    sources = sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / "protos" / PACKAGE).glob("*.proto")
    )
    command = [python, "-m", "grpc_tools.protoc", "-I", "protos", *options, *sources]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


def test_every_proto_has_its_modules(generated: dict[str, str]) -> None:
    names = {path.stem for path in (ROOT / "protos" / PACKAGE).glob("*.proto")}
    ends = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
    assert {name + end for name in names for end in ends} == set(generated)


def test_no_committed_stub_is_missing_or_left_over(generated: dict[str, str]) -> None:
    assert sorted(generated) == sorted(_stubs(COMMITTED)), "run `make proto`"


def test_every_committed_stub_is_generated_from_the_protos(generated: dict[str, str]) -> None:
    committed = _stubs(COMMITTED)
    assert [name for name in sorted(generated) if generated[name] != committed.get(name)] == [], (
        "run `make proto`"
    )


def test_the_oldest_runtimes_that_can_be_installed_accept_the_stubs() -> None:
    stubs = "".join(text for name, text in _stubs(COMMITTED).items() if name.endswith(".py"))
    generated = {
        "protobuf": set(re.findall(r"^# Protobuf Python Version: (.+)$", stubs, re.MULTILINE)),
        "grpcio": set(re.findall(r"^GRPC_GENERATED_VERSION = '(.+)'$", stubs, re.MULTILINE)),
    }

    with (COMMITTED / "pyproject.toml").open("rb") as file:
        named = map(Requirement, tomllib.load(file)["project"]["dependencies"])
    allowed = {
        each.name: {bound.version for bound in each.specifier if bound.operator == ">="} for each in named
    }

    assert {name: allowed[name] for name in generated} == generated


def test_the_stubs_of_ext_authz_are_generated_from_the_protos_beside_them(tmp_path: Path) -> None:
    sources = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / WIRE).glob("*.proto"))
    packages = Path(google.rpc.__path__[0]).parents[1]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", "-I", str(packages)]
    command += [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", *sources]

    subprocess.run(command, cwd=ROOT, timeout=PATIENCE, check=True)

    made, committed = (
        {path.name: path.read_text() for path in (folder / WIRE).glob("*_pb2.py*")}
        for folder in (tmp_path, ROOT)
    )
    assert len(made) == 2 * len(sources)
    assert made == committed, "run `make proto`"


def test_the_stubs_of_the_example_are_generated_from_the_protos_beside_them(tmp_path: Path) -> None:
    folder = ROOT / "examples" / "services"
    plugin = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "protos", "-I", str(folder)]
    command += [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python", "pyi")]
    command += [f"--plugin=protoc-gen-mypy_grpc={plugin}", f"--mypy_grpc_out=quiet:{tmp_path}"]

    subprocess.run([*command, *map(str, folder.glob("*.proto"))], cwd=ROOT, timeout=PATIENCE, check=True)

    made, committed = (
        {path.name: path.read_text() for path in place.glob("*_pb2*")} for place in (tmp_path, folder)
    )
    assert made == committed, "run `make proto`"
