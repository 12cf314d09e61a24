"""An installation of the service on each kind of store: a test that takes `installation` runs on both."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.process import Installation
from tests.redis_server import RedisServer


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the log of the service to the report of a failed test, since an exit code alone says little."""
    report = yield
    installation = getattr(item, "funcargs", {}).get("installation")
    if report.failed and isinstance(installation, Installation) and installation.has_log:
        report.sections.append(("service.log", installation.log))
    return report


@pytest.fixture(params=["sqlite", "redis"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    with installed(request.param, tmp_path) as installation:
        yield installation


@contextmanager
def installed(store: str, folder: Path) -> Iterator[Installation]:
    """Yield an installation with an empty store in `folder`; a Redis store syncs its file at every write."""
    if store == "sqlite":
        yield Installation(folder, f"sqlite:///{folder}/identity.db")
        return
    (folder / "redis").mkdir()
    server = RedisServer(folder / "redis")
    server.start()
    yield Installation(folder, server.url)
    server.stop()
