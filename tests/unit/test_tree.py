"""The files of the repository: no machine's paths or secrets, pinned dependencies, readable docstrings."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.:/-])(?:/(?:home|Users|root|work)/|[A-Z]:\\Users\\)\w",
    "the address of a package index": r"--(?:extra-)?index-url",
    "a private key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----",
}


def _tracked() -> list[Path]:
    """Return the files that git tracks."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout: what is tracked cannot be asked")
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=PATIENCE).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


def _text(path: Path) -> str:
    """Return the text of a file; empty if it is binary or deleted, or a link to a folder."""
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return ""


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [str(path.relative_to(ROOT)) for path in _tracked() if pattern.search(_text(path))]
    assert found == [], f"holds {what}"


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a path of one machine", "see " + "/".join(["", "home", "me", "notes"])),
        ("a path of one machine", "'" + "/".join(["", "root", "x"]) + "'"),
        ("the address of a package index", "pip install --extra-" + "index-url x"),
        ("the address of a package index", "--" + "index-url x"),
        ("a private key", "-----BEGIN EC " + "PRIVATE KEY-----"),
        ("a private key", "-----BEGIN " + "PRIVATE KEY-----"),
    ],
)
def test_each_forbidden_pattern_finds_its_example(what: str, text: str) -> None:
    assert re.search(FORBIDDEN[what], text)


# Pins.


def _pins(name: str) -> dict[str, tuple[str, int]]:
    """Return, for each package, its exact version and the number of its hashes."""
    pins: dict[str, tuple[str, int]] = {}
    for block in re.split(r"\n(?=\S)", (ROOT / name).read_text()):
        if block.startswith("#") or not block.strip():
            continue
        found = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", block)
        assert found, f"{name}: not pinned to one version: {block.splitlines()[0]}"
        pins[canonicalize_name(found[1])] = (
            found[2],
            len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)),
        )
    return pins


def _project(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


def _named(group: str) -> list[Requirement]:
    """Return the requirements of the server, the client and a group of dependencies."""
    server, client = _project("."), _project("clients/python")
    groups = server["dependency-groups"]
    named = [*server["project"]["dependencies"], *client["project"]["dependencies"]]
    for entry in groups[group]:
        named += [entry] if isinstance(entry, str) else groups[entry["include-group"]]
    return [found for found in map(Requirement, named) if found.name != client["project"]["name"]]


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-dev.txt"])
def test_every_pin_has_a_hash(name: str) -> None:
    pins = _pins(name)
    assert pins
    assert [package for package, (_, hashes) in pins.items() if hashes == 0] == []


@pytest.mark.parametrize(("name", "group"), [("constraints.txt", "build"), ("constraints-dev.txt", "dev")])
def test_everything_that_the_project_names_is_pinned_to_a_version_it_allows(name: str, group: str) -> None:
    pins = _pins(name)
    named = _named(group)
    assert [r.name for r in named if canonicalize_name(r.name) not in pins] == []
    assert [str(r) for r in named if not r.specifier.contains(pins[canonicalize_name(r.name)][0])] == []


def test_development_and_service_run_on_the_same_versions() -> None:
    service, dev = _pins("constraints.txt"), _pins("constraints-dev.txt")
    assert {name: pin for name, pin in service.items() if dev.get(name) != pin} == {}


def test_the_root_of_the_package_contains_only_the_entry_points() -> None:
    root = {path.name for path in (ROOT / "identity_service").glob("*.py")}

    assert root == {"__init__.py", "__main__.py", "bootstrap.py", "settings.py"}


def test_every_package_is_on_the_page_about_them_and_its_imports_are_limited() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    packages = [path.parent.name for path in (ROOT / "identity_service").glob("*/__init__.py")]

    assert packages
    assert [name for name in packages if f"`identity_service/{name}/`" not in page] == []
    assert [name for name in packages if not re.search(rf"identity_service\.{name}\b", str(contracts))] == []


def test_every_package_has_a_docstring() -> None:
    roots = ("identity_service", "clients/python/identity_client", "clients/python/identity_shared")
    packages = {path.parent for root in roots for path in (ROOT / root).rglob("*.py")}

    silent = [
        str(package.relative_to(ROOT))
        for package in packages
        if not (ast.get_docstring(ast.parse(_text(package / "__init__.py"))) or "").strip()
    ]
    assert silent == []


@pytest.mark.parametrize("package", ["identity_service", "clients/python/identity_client"])
def test_no_two_classes_of_a_package_have_one_name(package: str) -> None:
    classes = Counter(
        name
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r"^class ([A-Z]\w*)", _text(path), re.MULTILINE)
    )
    del classes["Guard"]  # one for threads and one for asyncio, which take the place of each other

    assert [name for name, count in classes.items() if count > 1] == []


def _clauses(text: str) -> list[str]:
    """Return the docstrings that begin like a clause, including those of attributes."""
    pronouns = "Whether|How|What|Whatever|Which|Who|Whoever|Whose|Where|Why"
    begins = rf"(?:{pronouns}|Also|And|Even|Nor|Such as|So that)\b"
    if not re.search(f'"""{begins}', text):
        return []  # as in most files: to parse all of them takes seconds
    strings = [
        node.value.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    return [string for string in strings if re.match(begins, string)]


def test_no_docstring_begins_as_a_clause() -> None:
    """Ruff checks neither the docstrings of attributes, nor that those of modules are sentences."""
    found = {
        str(path.relative_to(ROOT)): clauses
        for path in _tracked()
        if path.suffix == ".py" and (clauses := _clauses(_text(path)))
    }

    assert found == {}


def test_a_docstring_that_begins_as_a_clause_is_found() -> None:
    text = '"""Who may call."""\nclass A:\n    b: bool\n    """Also b."""\n    c: int\n    """Android."""\n'

    assert _clauses(text) == ["Who may call.", "Also b."]


def _imported(text: str) -> set[str]:
    """Return the modules that a source file imports, including imports in functions."""
    nodes = list(ast.walk(ast.parse(text)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    sources = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    modules = {node.module for node in sources if node.module}
    return plain | modules | {f"{node.module or ''}.{alias.name}" for node in sources for alias in node.names}


@pytest.mark.parametrize(
    ("folder", "own"),
    [
        ("identity_service/domain", ("identity_service.domain", "identity_shared")),
        ("clients/python/identity_shared", ("identity_shared",)),
    ],
)
def test_these_packages_know_the_standard_library_only(folder: str, own: tuple[str, ...]) -> None:
    def is_known(name: str) -> bool:
        return name.startswith(own) or name.partition(".")[0] in sys.stdlib_module_names

    found = {
        path: outside
        for path in (ROOT / folder).rglob("*.py")
        if (outside := {name for name in _imported(_text(path)) if not is_known(name)})
    }
    assert found == {}


def test_only_the_api_and_the_command_line_know_the_generated_messages() -> None:
    package = ROOT / "identity_service"
    texts = {path: text for path in package.rglob("*.py") if "identityapi" in (text := _text(path))}
    folders = {
        path.relative_to(package).parts[0]
        for path, text in texts.items()
        if any(name.startswith("identityapi") for name in _imported(text))
    }
    assert folders == {"grpc_api", "cli"}


def _modules_of_tests(text: str) -> list[str]:
    if not re.search(r"^\s*(?:(?:from|import)\s.*\btest_|test_\w+(?: as \w+)?,?$)", text, re.MULTILINE):
        return []  # as in all files: to parse them takes seconds
    return sorted(name for name in _imported(text) if name.rpartition(".")[2].startswith("test_"))


def test_no_module_imports_from_a_module_of_tests() -> None:
    """Shared code belongs in a module beside the tests, and fakes of the ports in `tests/fakes`."""
    sources = {path.relative_to(ROOT): _text(path) for path in (ROOT / "tests").rglob("*.py")}

    assert {str(path): found for path, text in sources.items() if (found := _modules_of_tests(text))} == {}


def test_an_import_from_a_module_of_tests_is_found() -> None:
    text = "def f():\n    import tests.test_b\n    from tests.unit import c\n"

    assert _modules_of_tests(text) == ["tests.test_b"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from tests.unit.test_a import A", "tests.unit.test_a"),
        ("from tests.unit import test_a", "tests.unit.test_a"),
        ("from tests.unit import (\n    test_a as a,\n)", "tests.unit.test_a"),
        ("from . import test_a", ".test_a"),
    ],
)
def test_each_form_of_such_an_import_is_found(text: str, found: str) -> None:
    assert found in _modules_of_tests(f"{text}\n")
