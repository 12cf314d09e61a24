"""The order of the tests and their distribution over the processes of pytest-xdist (`make test`)."""

from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

_WAITING: Final = ("tests/abuse/", "tests/e2e/", "tests/faults/")
"""Folders whose tests take long and spend most of it waiting, such as for processes that start or recover."""
_LONG: Final = (*_WAITING, "tests/docs/", "tests/machine/")
"""Folders with the longest tests. Modules with the marker `slow` are treated like these folders."""
_SHARE_NOTHING: Final = ("tests/e2e/", "tests/faults/")
"""Folders whose tests share no fixture with other tests: each test can run in any process."""
_COMPUTING: Final = 4
"""Of this many test processes, one starts with tests that compute; the others start with tests that wait."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, so that none of them still runs alone when all others have ended.

    This needs `--no-loadscope-reorder`: without it, pytest-xdist begins with the modules that have the most
    tests.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow and not item.nodeid.startswith(_LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Use the distribution of this module if pytest-xdist runs with `--dist loadscope`."""
    return _Scheduling(config, log) if config.getoption("dist") == "loadscope" else None


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands out whole modules, or single tests of the folders whose tests share nothing.

    One process in four (rounded up) begins with the tests that mostly compute, the others with those that
    mostly wait. If all processes waited at the same time, the cores would be idle; if all computed, they
    would compete for the cores. A process for which no test of its kind is left takes one of the other kind.
    """

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(_SHARE_NOTHING) else nodeid.partition("::")[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        computes = self.nodes.index(node) % _COMPUTING == 0
        unit = next((unit for unit in self.workqueue if unit.startswith(_WAITING) is not computes), None)
        if unit is not None:
            self.workqueue.move_to_end(unit, last=False)
        super()._assign_work_unit(node)
