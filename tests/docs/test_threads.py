"""docs/architecture.md lists the named threads of the service, which the event `stop_forced` mentions.

The test ignores timers and the threads of libraries.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STARTS = {"Thread", "BackgroundThread", "Threads", "ThreadPoolExecutor", "_start_thread"}
"""The names of the classes and functions that create a thread or a pool of threads, and name it."""
NAME = re.compile(r"identity-[a-z-]*[a-z]")


def called(call: ast.Call) -> str:
    """Return the last part of the name of the function that is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def names_in(node: ast.AST) -> set[str]:
    """Return the thread names in the string constants of an expression, without a number at their end."""
    texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return {found[0] for text in texts if (found := NAME.match(text))}


def assigned(function: ast.AST, variable: str) -> set[str]:
    """Return the thread names in the values that a function assigns to a variable."""
    return {
        name
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and variable in {getattr(target, "id", "") for target in node.targets}
        for name in names_in(node.value)
    }


def starts(tree: ast.Module) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Yield the calls that create a thread, each with the innermost function or module around it."""
    around: dict[ast.AST, ast.AST] = {}
    for outer in ast.walk(tree):
        if isinstance(outer, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
            around |= dict.fromkeys(ast.walk(outer), outer)
    for node, outer in around.items():
        if isinstance(node, ast.Call) and called(node) in STARTS:
            yield node, outer


def names_of(call: ast.Call, outer: ast.AST) -> set[str]:
    """Return the names that a call gives its threads, as constants or by a variable of its function."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    found = {name for value in given for name in names_in(value)}
    for value in given:
        if isinstance(value, ast.Name):
            found |= assigned(outer, value.id)
    return found


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """The syntax trees of all modules of the service, by path."""
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
        for path in (ROOT / "identity_service").rglob("*.py")
    }


def test_the_page_lists_every_named_thread_and_no_other(trees: dict[str, ast.Module]) -> None:
    made = {n for tree in trees.values() for call, outer in starts(tree) for n in names_of(call, outer)}
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`identity-.*?) \|", page, re.MULTILINE)

    assert {name for row in rows for name in NAME.findall(row)} == made


def unnamed(tree: ast.Module) -> list[int]:
    """Return the line numbers of calls that create a thread without a name, or without `daemon`."""
    return [
        call.lineno
        for call, _ in starts(tree)
        if called(call) == "Thread" and not {"name", "daemon"} <= {keyword.arg for keyword in call.keywords}
    ]


def test_every_thread_has_a_name_and_lets_the_process_end(trees: dict[str, ast.Module]) -> None:
    assert {path: lines for path, tree in trees.items() if (lines := unnamed(tree))} == {}


@pytest.mark.parametrize(
    ("code", "names", "lines"),
    [
        ("Thread(target=f, name='identity-a', daemon=True)", {"identity-a"}, []),
        (
            "def f():\n    n = f'identity-b-{x}'\n    threading.Thread(name=n, daemon=True)",
            {"identity-b"},
            [],
        ),
        ("Threads(1, 'identity-c')", {"identity-c"}, []),
        ("Thread(target=f)", set(), [1]),
        ("Thread(target=f, name='identity-d')", {"identity-d"}, [1]),
    ],
)
def test_a_thread_is_found(code: str, names: set[str], lines: list[int]) -> None:
    tree = ast.parse(code)

    assert {name for call, outer in starts(tree) for name in names_of(call, outer)} == names
    assert unnamed(tree) == lines
