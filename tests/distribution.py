"""The order of the tests, and their distribution over the processes of pytest-xdist (`make test`)."""

from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

_WAITING: Final = ("tests/abuse/", "tests/e2e/", "tests/faults/")
"""The folders whose tests take long, and mostly wait: for processes that start, recover or are attacked."""
_LONG: Final = (*_WAITING, "tests/docs/", "tests/machine/")
"""The folders with the tests that take longest, beside modules with the marker `slow`."""
_SHARE_NOTHING: Final = ("tests/e2e/", "tests/faults/")
"""The folders whose tests share no service, so that each of them may run in any process."""
_COMPUTING: Final = 4
"""One process of so many runs the other tests from the start on."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first: begun last, one would keep a single process of the run busy.

    This needs `--no-loadscope-reorder`: else pytest-xdist begins with the modules that have the most tests.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow and not item.nodeid.startswith(_LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadscope`, distribute the tests as this module says."""
    return _Scheduling(config, log) if config.getoption("dist") == "loadscope" else None


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Distributes modules, or single tests of the folders whose tests share nothing.

    One process of four, rounded up, begins with the tests that mostly compute, and the others with those that
    mostly wait. If all waited at the same time, the cores would be idle; later all would share them.
    A process that finds no more tests of its kind takes the others.
    """

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(_SHARE_NOTHING) else nodeid.partition("::")[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        computes = self.nodes.index(node) % _COMPUTING == 0
        unit = next((unit for unit in self.workqueue if unit.startswith(_WAITING) is not computes), None)
        if unit is not None:
            self.workqueue.move_to_end(unit, last=False)
        super()._assign_work_unit(node)
