"""The order of the tests, and their distribution over the processes of pytest-xdist (`make test`)."""

from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

_TESTS: Final = Path(__file__).parent
_LONGEST: Final = tuple(_TESTS / name for name in ("machine", "faults", "abuse", "e2e", "docs"))
"""The folders with the tests that take longest."""
_SHARE_NOTHING: Final = ("tests/e2e/", "tests/faults/")
"""The folders whose tests share no service, so that each of them may run in any process."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first: begun last, one would keep a single process of the run busy.

    This needs `--no-loadscope-reorder`: else pytest-xdist begins with the modules that have the most tests.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    paths = {item.path for item in items}  # a question about a path takes long for each of 10,000 tests
    slow |= {path for path in paths if any(path.is_relative_to(folder) for folder in _LONGEST)}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadscope`, distribute single tests of the folders whose tests share nothing."""
    if config.getoption("dist") != "loadscope":
        return None
    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = _unit_of_work
    return scheduling


def _unit_of_work(test: str) -> str:
    """Return the name of the unit that this test is distributed with: its module, or itself."""
    return test if test.startswith(_SHARE_NOTHING) else test.partition("::")[0]
