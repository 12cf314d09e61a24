"""Fixtures that several suites share."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import settings

from identity_service import bootstrap
from tests import leaks
from tests.fakes.event_logs import RecordingEventLog
from tests.leaks import (
    pytest_sessionfinish as pytest_sessionfinish,
)
from tests.leaks import (
    pytest_terminal_summary as pytest_terminal_summary,
)
from tests.leaks import (
    watched_errors as watched_errors,
)
from tests.leaks import (
    watched_log as watched_log,
)
from tests.redis_server import RedisServer, choose_server
from tests.signals import give_default_signals_to_children

# The time of an example depends on the load of the machine, and would fail correct code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare each process of the run, those of xdist among them."""
    leaks.pytest_configure(config)
    config.pluginmanager.register(CoverageMarks())
    give_default_signals_to_children()
    choose_server()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules with slow tests first: begun last, one would keep a single process of the run busy.

    This needs `--no-loadscope-reorder`: else pytest-xdist begins with the modules that have the most tests.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


_MEASURED: Final = tuple(Path(__file__).parent / name for name in ("unit/domain", "unit/services", "rpc"))
_MEASURED_ON: Final = {"world": "sqlite", "start_world": "grpcio"}


class CoverageMarks:
    """Marks the tests that the coverage is measured with: of `tests/rpc` those on one store and engine.

    To measure slows a test down by a third to a half, and the others add nothing to it.
    """

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Mark one test."""
        callspec = getattr(item, "callspec", None)
        params = {} if callspec is None else callspec.params
        if (
            any(item.path.is_relative_to(folder) for folder in _MEASURED)
            and all(params.get(name, kind) == kind for name, kind in _MEASURED_ON.items())
            and not item.get_closest_marker("no_cover")
        ):
            item.add_marker("covered")


@pytest.fixture
def event_log() -> RecordingEventLog:
    return RecordingEventLog()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every user may enter; only this user may enter that of pytest."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def still_at() -> datetime | None:
    """The time at which the wall clock of a service of a test stands; None = it goes on."""
    return None


@pytest.fixture(autouse=True)
def still_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service in this process maintains its keys once, at its start, so that the counts of a test stay."""
    monkeypatch.setattr(bootstrap, "_KEYS_INTERVAL", timedelta(hours=1))
