"""Fixtures and hooks that all tests share."""

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
    """Prepare this process of the test run; each process of pytest-xdist runs this hook."""
    leaks.pytest_configure(config)
    give_default_signals_to_children()
    choose_server()


def pytest_unconfigure() -> None:
    """End the child processes that hash passwords; all services in this process share them."""
    end_processes()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from visiting the collected tests: 14,000 tests are 480,000 objects.

    The collector is off while pytest collects, which saves one second of five. `gc.freeze` then excludes all
    objects of the tests from later collections. Without it, a full collection took 0.3 to 0.4 s, and one ran
    every 40 to 90 tests. The 14 MB of garbage of the collection itself are never freed.
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
    """Yield a folder that every user may enter; the folders of pytest's `tmp_path` admit only their owner."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def still_at() -> datetime | None:
    """The time at which the wall clock of the service under test stands still; None = the clock runs."""
    return None


@pytest.fixture(autouse=True)
def still_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let services in this process maintain their signing keys only at their start.

    Otherwise a key could be created or retired while a test counts writes.
    """
    monkeypatch.setattr(bootstrap, "_KEYS_INTERVAL", timedelta(hours=1))
