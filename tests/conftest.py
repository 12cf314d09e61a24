"""Fixtures that several suites share."""

from collections.abc import Iterator

import pytest

from tests.leaks import (
    pytest_configure as pytest_configure,
)
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
from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()
