"""A service for each test, on each store: what takes `world` runs on both."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from identity_service.bootstrap import Office, Service
from identity_service.domain.store import Store
from identity_service.opening import open_hasher
from identity_service.settings import Settings
from identity_service.storage.redis import RedisStore
from identity_service.storage.sqlite import SqliteStore
from identity_service.wiring import office_administration
from tests.redis_server import RedisServer
from tests.rpc.administrator import Administrator
from tests.rpc.world import Account, ShiftedClock, World, client_secret
from tests.tls import Certifier

MASTER_KEY = "a master key for tests, 32 characters or more"
STORES = ("sqlite", "redis")

StartWorld = Callable[..., World]


def settings_for_tests(**changes: object) -> Settings:
    """Cheap passwords and quick beats; all else as in production."""
    values: dict[str, object] = {
        "listen": "127.0.0.1:0",
        "master_key": MASTER_KEY,
        "argon2_time_cost": 1,
        "argon2_memory_kib": 64,
        "argon2_parallelism": 1,
        "beat_interval": timedelta(milliseconds=50),
    } | changes
    return Settings(**values)


@contextmanager
def running(settings: Settings, open_store: Callable[[ShiftedClock], Store]) -> Iterator[World]:
    """A service on a fresh store, serving until the block ends."""
    clock = ShiftedClock()
    with ExitStack() as cleanup:
        store = open_store(clock)
        cleanup.callback(store.close)
        hasher = open_hasher(settings)
        office = Office(
            settings=settings,
            store=store,
            administrator=office_administration(store, hasher, clock),
            clock=clock,
        )
        made = office.initialise()
        service = Service(settings, clock=clock, store=store)
        target = f"127.0.0.1:{service.start()}"
        cleanup.callback(service.stop)
        channel = cleanup.enter_context(grpc.insecure_channel(target))
        yield World(
            settings=settings,
            clock=clock,
            store=store,
            office=office,
            service=service,
            target=target,
            channel=channel,
            admin=Account(
                id=made.client_id, credential=client_secret(made.client_id, made.client_secret.reveal())
            ),
        )


def opener(kind: str, directory: Path, request: pytest.FixtureRequest) -> Callable[[ShiftedClock], Store]:
    """How a store of this kind is opened, empty."""
    if kind == "sqlite":
        return lambda clock: SqliteStore.open(str(directory / "identity.db"), clock=clock)
    server: RedisServer = request.getfixturevalue("redis_server")
    server.start()
    server.flush()
    return lambda clock: RedisStore.connect(server.url, clock=clock)


@pytest.fixture(params=STORES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with running(settings_for_tests(), opener(request.param, tmp_path, request)) as world:
        yield world


@pytest.fixture
def admin(world: World) -> Administrator:
    """The first administrator, calling AdminService."""
    return Administrator(world, world.admin_token(scopes=["identity.admin"]))


@pytest.fixture
def start_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartWorld]:
    """Starts a service with other settings, on SQLite."""
    with ExitStack() as cleanup:

        def start(**changes: object) -> World:
            return cleanup.enter_context(
                running(settings_for_tests(**changes), opener("sqlite", tmp_path, request))
            )

        yield start


@pytest.fixture
def certifier(tmp_path: Path) -> Certifier:
    """An authority with a folder of its own."""
    return Certifier(tmp_path / "tls")


@pytest.fixture
def mutual(start_world: StartWorld, certifier: Certifier) -> World:
    """A service where every client must show a certificate; its own channel shows none."""
    return start_world(**certifier.server().settings(tls_client_ca=certifier.file))
