"""`make mutants`: changes the code in small ways, and shows changes that no unit test detects (cosmic-ray).

A mutant is a copy of the code with one change: another operator, number or condition, or a decorator less.
For each layer, a sample of mutants is tested with the unit tests of that layer alone. A mutant that passes
all tests either behaves like the code or shows that a test is missing.
"""

import argparse
import contextlib
import difflib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cosmic_ray.commands import init
from cosmic_ray.modules import find_modules
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.testing import run_tests
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import TestOutcome

from tests.mutants.sample import choose

_LAYERS: Final = ("domain", "services")
_COPIED: Final = ("identity_service", "tests", "docs", "pyproject.toml")
_TIMES: Final = 10
"""The tests of a mutant time out after this many times the time that the unchanged code takes."""
_LEAST_LIMIT: Final = 60.0
"""The shortest limit, in seconds, for the tests of a mutant, if `_TIMES` gives less."""


@dataclass(kw_only=True)
class Result:
    """The result of the mutants of one layer."""

    layer: str
    killed: int = 0
    survived: list[str] = field(default_factory=list)
    timed_out: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """Return the number of mutants that were tested."""
        return self.killed + len(self.survived) + len(self.timed_out)

    @property
    def row(self) -> str:
        """Return the layer's row in the table of results."""
        counts = f"{self.tried:>8}{self.killed:>8}{len(self.survived):>10}{len(self.timed_out):>11}"
        return f"{self.layer:10}{counts}{self.killed / max(self.tried, 1):>9.0%}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("layers", nargs="*", metavar="LAYER", help="domain, services; default: both")
    parser.add_argument("--size", type=int, default=100, help="mutants of each layer; default: 100")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another sample; default: 0")
    parser.add_argument("--python", type=Path, required=True, help="the Python that runs the tests")
    asked = parser.parse_args()
    python = str(asked.python.absolute())
    with copied_project():
        results = [try_layer(layer, asked.size, asked.seed, python) for layer in asked.layers or _LAYERS]
    _say(f"\n{'layer':10}{'mutants':>8}{'killed':>8}{'survived':>10}{'timed out':>11}{'killed':>9}")
    for result in results:
        _say(result.row)
    _say(
        "\nA mutant counts as killed only if a test failed. One that timed out may never end, or the machine"
        "\nmay have been busier than when the unchanged code was tested."
    )
    return 0


@contextlib.contextmanager
def copied_project() -> Iterator[None]:
    """Work in a copy of the project, since cosmic-ray changes files in place and may be killed meanwhile."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for name in _COPIED:
            if Path(name).is_dir():
                shutil.copytree(name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(name, folder)
        with contextlib.chdir(folder):
            yield


def try_layer(layer: str, size: int, seed: int, python: str) -> Result:
    """Test a sample of the mutants of one layer.

    Raises SystemExit if the tests fail with the unchanged code.
    """
    code, tests = Path("identity_service", layer), Path("tests", "unit", layer)
    # Without a limit for each test: a test that it ended would look like one that failed.
    options = ("-x", "-q", "-p", "no:cacheprovider", "--timeout=0", "--hypothesis-seed=0")
    command = shlex.join([python, "-m", "pytest", *options, str(tests)])
    limit = max(_LEAST_LIMIT, _TIMES * _seconds_unchanged(command))
    with use_db("session.sqlite") as db:
        init(sorted(find_modules([code])), db, {})
        mutations = [item.mutations[0] for item in db.work_items]
    _say(
        f"\n{layer}: {len(mutations):,} mutants, of which a sample is tried by {tests} (limit: {limit:.0f} s)"
    )
    result = Result(layer=layer)
    for mutation in choose(mutations, seed):
        if result.tried == size:
            break
        before = result.tried
        _try(mutation, python, command, limit, result)
        if result.tried > before and result.tried % 10 == 0:
            _say(f"{layer}: {result.tried} tried, {result.killed} killed")
    return result


def _seconds_unchanged(command: str) -> float:
    begin = time.monotonic()
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the tests fail without any change:\n{done.stdout}{done.stderr}")
    return time.monotonic() - begin


def _try(mutation: Any, python: str, command: str, limit: float, result: Result) -> None:
    """Test one mutant and count the result; a mutant that cannot be imported does not count."""
    path: Path = mutation.module_path
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    imports = shlex.join([python, "-c", f"import {'.'.join(path.with_suffix('').parts)}"])
    with use_mutation(path, operator, mutation.occurrence) as (before, after):
        if run_tests(imports, limit)[0] is not TestOutcome.SURVIVED:
            return
        outcome, output = run_tests(command, limit)
    change = _change(before, after)
    where = f"{path}:{mutation.start_pos[0]}\n{change}"
    if outcome is TestOutcome.SURVIVED:
        result.survived.append(where)
        _say(f"survived: {where}")
    elif output == "timeout":  # cosmic-ray's word for it; it has no outcome of its own
        result.timed_out.append(where)
        _say(f"timed out: {where}")
    elif outcome is TestOutcome.KILLED:
        result.killed += 1
    else:
        sys.exit(f"the tests could not be started: {output}")


def _change(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(f"    {line}" for line in list(lines)[2:] if not line.startswith("@@"))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
