"""Fixtures that several suites share."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from hypothesis import settings

from identity_service import bootstrap
from tests import leaks
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

# How long an example takes says how busy the machine is, and fails what is right.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare each process of the run, those of xdist among them."""
    leaks.pytest_configure(config)
    give_default_signals_to_children()
    choose_server()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules with slow tests first: begun last, one would keep a single process of the run busy.

    This needs `--no-loadscope-reorder`: else pytest-xdist begins with the modules that have the most tests.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def still_at() -> datetime | None:
    """Where the wall clock of a service of a test stands: it goes on, unless a folder says otherwise."""
    return None


@pytest.fixture(autouse=True)
def still_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service in this process looks after its keys once, at its start: what a test counts stays so."""
    monkeypatch.setattr(bootstrap, "_KEYS_INTERVAL", timedelta(hours=1))
