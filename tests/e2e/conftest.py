"""An installation on each store: what takes `installation` runs on both."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import Installation
from tests.redis_server import RedisServer


@pytest.fixture(params=["sqlite", "redis"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """An empty store in an empty folder; the Redis one syncs its file at every write."""
    if request.param == "sqlite":
        yield Installation(tmp_path, f"sqlite:///{tmp_path}/identity.db")
        return
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield Installation(tmp_path, server.url)
    server.stop()
