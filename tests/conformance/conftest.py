"""The table of stores that the conformance suite runs on.

A test that takes `store` or `backend` runs on each.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from identity_service.domain.ids import new_epoch
from identity_service.domain.store import Store
from identity_service.storage.redis import RedisStore
from identity_service.storage.sqlite import SqliteStore
from tests.conformance.backends import Backend, ClusterBackend, RedisBackend, SqliteBackend
from tests.fakes.clocks import FakeClock
from tests.redis_server import RedisServer
from tests.redis_topology import ClusterGroup, running

STORE_SECONDS = 2.0
"""The timeout of `redis_store` in seconds. A test in which the server does not answer takes that long."""

BackendFactory = Callable[[pytest.FixtureRequest, Path], Backend]

BACKENDS: dict[str, BackendFactory] = {
    "sqlite": lambda _, directory: SqliteBackend(directory),
    "redis": lambda request, _: RedisBackend(request.getfixturevalue("redis_server")),
    "cluster": lambda request, _: ClusterBackend(request.getfixturevalue("redis_cluster")),
}


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterGroup]:
    with running(ClusterGroup(tmp_path_factory.mktemp("redis-cluster"))) as group:
        yield group


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    backend = BACKENDS[request.param](request, tmp_path)
    yield backend
    backend.close()


@pytest.fixture
def clock(backend: Backend) -> FakeClock:
    return backend.clock


@pytest.fixture
def store(backend: Backend) -> Store:
    """An initialised store of each kind."""
    store = backend.open()
    store.initialise(new_epoch())
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity.db"


@pytest.fixture
def file_store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(str(path), clock=FakeClock())
    store.initialise(new_epoch())
    yield store
    store.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server for one test alone, which may kill, pause and reconfigure it."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_store(server: RedisServer) -> Iterator[RedisStore]:
    """An initialised store on `server`, with a timeout of `STORE_SECONDS`."""
    store = RedisStore.connect(server.url, timeout=STORE_SECONDS)
    store.initialise(new_epoch())
    yield store
    store.close()
