"""Fixtures that several suites share."""

import gc
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from identity_service import bootstrap
from identity_service.adapters.password_hashing import end_processes
from tests import leaks
from tests.distribution import (
    pytest_collection_modifyitems as pytest_collection_modifyitems,
)
from tests.distribution import (
    pytest_xdist_make_scheduler as pytest_xdist_make_scheduler,
)
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
    give_default_signals_to_children()
    choose_server()


def pytest_unconfigure() -> None:
    """End the child processes that hash passwords, which all services of this process share."""
    end_processes()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have the garbage collector skip the tests themselves: of all 14,000, they are 480,000 objects.

    While they are found it does not run, which took a second of five; the garbage of that, 14 MB, stays.
    Later, each collection of all objects would take 0.3 to 0.4 s, and one came every 40 to 90 tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


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
