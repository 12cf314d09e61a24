"""The two distributions, server and client: the content of their wheels and their dependencies."""

import ast
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "python"
PACKAGES = {"identityapi", "identity_client", "identity_shared"}
_USE_WITHOUT_SERVER = """
import importlib.util, sys
sys.path += sys.argv[1:]
sys.modules["joserfc"] = None  # only the extra [encryption] installs it
import identity_client
print(identity_client.__file__)
print(importlib.util.find_spec("identity_service"))
"""


def _run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _build(project: Path, folder: Path, target: str = "wheel") -> Path:
    _run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder), cwd=project)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(CLIENT, tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(ROOT, tmp_path_factory.mktemp("server"))


def _files(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def _metadata(wheel: Path) -> Message:
    (name,) = (name for name in _files(wheel) if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(zipfile.ZipFile(wheel).read(name))


def _needs(wheel: Path) -> dict[str, Requirement]:
    needs = map(Requirement, _metadata(wheel).get_all("Requires-Dist", []))
    return {canonicalize_name(requirement.name): requirement for requirement in needs}


def _packages(wheel: Path) -> set[str]:
    folders = {name.partition("/")[0] for name in _files(wheel)}
    return {folder for folder in folders if not folder.endswith(".dist-info")}


# Contents


def test_the_client_holds_its_packages_with_their_types_and_no_command(client: Path) -> None:
    assert _packages(client) == PACKAGES
    assert _files(client) >= {f"{package}/py.typed" for package in PACKAGES}
    assert not [name for name in _files(client) if name.endswith(("entry_points.txt", ".pyc"))]


def test_the_server_holds_its_package_and_the_command(server: Path) -> None:
    assert _packages(server) == {"identity_service"}
    (entries,) = (name for name in _files(server) if name.endswith("entry_points.txt"))
    assert "identity = identity_service.__main__:main" in zipfile.ZipFile(server).read(entries).decode()


def test_the_source_distribution_of_the_client_gives_the_same_wheel(client: Path, tmp_path: Path) -> None:
    """The protos are outside the client's folder, which has a symbolic link to them."""
    sources = _build(CLIENT, tmp_path / "built", "sdist")
    shutil.unpack_archive(sources, tmp_path / "sources", filter="data")
    (project,) = (tmp_path / "sources").iterdir()

    assert _files(_build(project, tmp_path / "wheel")) == _files(client)


def test_each_wheel_holds_the_license(client: Path, server: Path) -> None:
    for wheel in (client, server):
        (name,) = (name for name in _files(wheel) if name.endswith("/licenses/LICENSE"))
        assert zipfile.ZipFile(wheel).read(name) == (ROOT / "LICENSE").read_bytes()


# Dependencies


def test_the_server_needs_the_client_of_its_own_version(client: Path, server: Path) -> None:
    version = _metadata(client)["Version"]

    assert version == _metadata(server)["Version"]
    assert _needs(server)["identity-client"].specifier.contains(version)


def test_the_client_works_without_the_server_being_installed(client: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    _run(*pip, "--no-deps", "--target", str(tmp_path), str(client))
    dependencies = metadata.distribution("grpcio").locate_file("")

    # -S: the path of this interpreter's editable installation is not on the path of that one.
    program = [sys.executable, "-I", "-S", "-c", _USE_WITHOUT_SERVER, str(tmp_path), str(dependencies)]
    used, of_server = _run(*program, cwd=tmp_path).splitlines()

    assert Path(used).parents[1] == tmp_path
    assert of_server == "None"
    assert not (tmp_path / "bin").exists()


def _imported() -> set[str]:
    """Return the full names of the modules that the client imports, including imports in functions."""
    names = set[str]()
    for package in PACKAGES:
        for path in (CLIENT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names | PACKAGES}


def _modules(distribution: str) -> set[str]:
    """Return the full names of the modules that a distribution installs."""
    paths = (path.with_name(path.name.partition(".")[0]) for path in metadata.files(distribution) or ())
    return {".".join(path.parent.parts if path.name == "__init__" else path.parts) for path in paths}


def test_the_client_requires_exactly_the_packages_that_it_imports(client: Path) -> None:
    modules = {name: _modules(name) for name in _needs(client)}
    used = set[str]()
    for name in _imported():
        owners = {owner for owner, found in modules.items() if {name, name.rpartition(".")[0]} & found}
        assert owners, f"{name}: no dependency of the client installs it"
        used |= owners

    assert used == set(modules)
