"""Fixtures that start a service for each test.

A test that takes `world` runs with the grpcio engine on SQLite, and with the Envoy engine on Redis. A test
with the marker `in_process` runs with the grpcio engine on both stores.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from identity_service.bootstrap import Service
from identity_service.composition.opening import open_hasher
from identity_service.composition.store_admin import StoreAdmin
from identity_service.composition.wiring import store_administration
from identity_service.domain.audit import AUDIT_ENTRIES
from identity_service.domain.store import Store
from identity_service.grpc_api import grpcio_engine
from identity_service.grpc_api.core.check import why_not
from identity_service.settings import Settings
from tests.patience import PATIENCE
from tests.redis_server import RedisServer
from tests.rpc.administrator import Administrator
from tests.rpc.clocks import SharedClock, ShiftedClock
from tests.rpc.engines import EnvoyHost
from tests.rpc.envoy_inside import StoreAddress
from tests.rpc.heartbeats import Heartbeats
from tests.rpc.world import Principal, World, client_secret
from tests.tls import Certifier
from tests.unsynced import unsynced

MASTER_KEY = "a master key for tests, 32 characters or more"
STORES = ("sqlite", "redis")
GRPCIO, ENVOY = "grpcio", "envoy"

MAX_STALENESS = timedelta(seconds=2 * PATIENCE)
"""The staleness at which a service stops answering. It is longer than any test takes on a slow machine, so
that a service is stale only if its test ages its clock."""

StartWorld = Callable[..., World]

# The first service of this process checks the installed grpcio, with a server that takes 3 ms of a processor.
vars(grpcio_engine)["why_not"] = cache(why_not)


def settings_for_tests(**changes: object) -> Settings:
    """Return settings with cheap password hashes, frequent heartbeats and a long `max_staleness`.

    All other settings are those of production unless `changes` names them.
    """
    values: dict[str, object] = {
        "listen": "127.0.0.1:0",
        "master_key": MASTER_KEY,
        "argon2_time_cost": 1,
        "argon2_memory_kib": 64,
        "argon2_parallelism": 1,
        "heartbeat_interval": timedelta(milliseconds=50),
        "max_staleness": MAX_STALENESS,
    } | changes
    return Settings(**values)


@contextmanager
def running(
    settings: Settings,
    open_store: Callable[[ShiftedClock], Store],
    *,
    still_at: datetime | None = None,
) -> Iterator[World]:
    """Run a service in this process on a fresh store until the block ends.

    Its clock stands still at `still_at`; if that is None, the clock runs.
    """
    clock = ShiftedClock(still_at=still_at)
    with ExitStack() as cleanup:
        with unsynced():
            store = open_store(clock)
        cleanup.callback(store.close)
        store_admin, admin = new_store_admin(settings, store, clock)
        clock.tick()
        service = Service(settings, clock=clock, store=store)
        heartbeats = Heartbeats(service)
        target = f"127.0.0.1:{service.start()}"
        cleanup.callback(service.stop)
        cleanup.enter_context(clock.followed_by(heartbeats.notices_a_move))
        channel = cleanup.enter_context(grpc.insecure_channel(target))
        yield World(
            settings=settings,
            clock=clock,
            store=store,
            store_admin=store_admin,
            service=service,
            target=target,
            channel=channel,
            admin=admin,
        )


def new_store_admin(settings: Settings, store: Store, clock: ShiftedClock) -> tuple[StoreAdmin, Principal]:
    """Initialise an empty store; return the object that administers it, and its first administrator."""
    administrator = store_administration(store.records, open_hasher(settings), clock, settings.issuer_names)
    store_admin = StoreAdmin(settings=settings, store=store, administrator=administrator, clock=clock)
    made = store_admin.initialise()
    credential = client_secret(made.client_id, made.client_secret.reveal())
    return store_admin, Principal(id=made.client_id, credential=credential)


def marked_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the settings in the marker `settings` of the test, or none without the marker."""
    marker = request.node.get_closest_marker("settings")
    return dict(marker.kwargs) if marker is not None else {}


def address(kind: str, directory: Path, request: pytest.FixtureRequest) -> StoreAddress:
    """Return the address of an empty store of this kind."""
    events = marked_settings(request).get("audit_entries", AUDIT_ENTRIES)
    if kind == "sqlite":
        return StoreAddress(kind=kind, place=str(directory / "identity.db"), audit_entries=events)
    server: RedisServer = request.getfixturevalue("redis_server")
    server.start()
    server.flush()
    return StoreAddress(kind=kind, place=server.url, audit_entries=events)


@contextmanager
def running_in_envoy(
    host: EnvoyHost,
    settings: Settings,
    store: StoreAddress,
    directory: Path,
    *,
    still_at: datetime | None = None,
) -> Iterator[World]:
    """Run a service in Envoy until the block ends.

    The service shares its store and its clock with this process, so that the test can read and move them.
    """
    path = directory / "clock"
    clock = SharedClock(path, still_at=still_at)
    with ExitStack() as cleanup:
        with unsynced():
            ours = store.open(clock)
        cleanup.callback(ours.close)
        store_admin, admin = new_store_admin(settings, ours, clock)
        clock.tick()
        service: Any = host.start_service(settings, store, path)
        cleanup.callback(service.stop)
        cleanup.enter_context(clock.followed_by(partial(clock.awaiting, service.staleness)))
        yield World(
            settings=settings,
            clock=clock,
            store=ours,
            store_admin=store_admin,
            service=service,
            target=host.target,
            channel=cleanup.enter_context(grpc.insecure_channel(host.target)),
            admin=admin,
        )


EnvoyFor = Callable[[Settings], AbstractContextManager[EnvoyHost]]


@pytest.fixture(scope="session")
def envoy_for(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyFor]:
    """Yield a function that returns an Envoy for given settings.

    The Envoy is a new one if the settings name the port of `mtls_listen`, and otherwise one that tests share.
    """
    shared: dict[tuple[bool, bool, bool], EnvoyHost] = {}

    @contextmanager
    def get(settings: Settings) -> Iterator[EnvoyHost]:
        if settings.mtls_listen and not settings.mtls_listen.endswith(":0"):
            with closing(EnvoyHost(settings, tmp_path_factory.mktemp("envoy"))) as host:
                yield host
            return
        kind = (
            settings.tls_certificate is not None,
            settings.tls_client_ca is not None,
            bool(settings.mtls_listen),
        )
        if kind not in shared:
            shared[kind] = EnvoyHost(settings, tmp_path_factory.mktemp("envoy"))
        yield shared[kind]

    yield get
    for host in shared.values():
        host.close()


@pytest.fixture
def still_at() -> datetime:
    """Return the time at which the wall clock of every service stands still until a test moves it.

    This time is one minute ago, so that code that checks tokens against the real clock does not reject them
    as not yet valid.
    """
    return datetime.now(UTC) - timedelta(minutes=1)


@pytest.fixture(params=(*STORES, ENVOY))
def world(request: pytest.FixtureRequest, tmp_path: Path, still_at: datetime | None) -> Iterator[World]:
    changes = marked_settings(request)
    if request.param == ENVOY:
        settings = settings_for_tests(engine=ENVOY, **changes)
        envoy: EnvoyFor = request.getfixturevalue("envoy_for")
        store = address("redis", tmp_path, request)
        with (
            envoy(settings) as host,
            running_in_envoy(host, settings, store, tmp_path, still_at=still_at) as world,
        ):
            yield world
    else:
        open_store = address(request.param, tmp_path, request).open
        with running(settings_for_tests(**changes), open_store, still_at=still_at) as world:
            yield world


@pytest.fixture
def admin(world: World) -> Administrator:
    """The first administrator of the service, as a caller of AdminService."""
    return Administrator(world, world.admin_token(scopes=["identity.admin"]))


@pytest.fixture
def start_world(
    request: pytest.FixtureRequest, tmp_path: Path, still_at: datetime | None
) -> Iterator[StartWorld]:
    """Yield a function that starts a service on SQLite with given settings.

    The engine is the parameter of the fixture: `pytest_generate_tests` runs each test of this folder with
    both engines. Without the parameter it is grpcio.
    """
    engine = getattr(request, "param", GRPCIO)
    with ExitStack() as cleanup:

        def start(**changes: object) -> World:
            settings, store = (
                settings_for_tests(engine=engine, **(marked_settings(request) | changes)),
                address("sqlite", tmp_path, request),
            )
            if engine == GRPCIO:
                return cleanup.enter_context(running(settings, store.open, still_at=still_at))
            envoy: EnvoyFor = request.getfixturevalue("envoy_for")
            host = cleanup.enter_context(envoy(settings))
            return cleanup.enter_context(running_in_envoy(host, settings, store, tmp_path, still_at=still_at))

        yield start


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses `start_world` on both engines, or on grpcio alone if it is `in_process`."""
    if "start_world" in metafunc.fixturenames:
        in_process = metafunc.definition.get_closest_marker("in_process")
        metafunc.parametrize("start_world", [GRPCIO] if in_process else [GRPCIO, ENVOY], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Remove tests so that each of them runs on both stores and both engines, but not on every combination.

    An engine does not depend on the store, and `tests/conformance` shows that the stores behave alike. A test
    with the marker `in_process` uses internal parts of the service and therefore needs it in this process, so
    that test runs on both stores with grpcio.
    """
    items[:] = [item for item in items if _params(item).get("world") != _left_out(item)]


def _left_out(item: pytest.Item) -> str:
    return ENVOY if item.get_closest_marker("in_process") else "redis"


def _params(item: pytest.Item) -> Mapping[str, object]:
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else callspec.params


@pytest.fixture
def certifier(tmp_path: Path) -> Certifier:
    """A certificate authority with a folder of its own."""
    return Certifier(tmp_path / "tls")


@pytest.fixture
def mutual(start_world: StartWorld, certifier: Certifier) -> World:
    """A service that requires a client certificate. The channel of this `World` has none."""
    return start_world(**certifier.server().settings(tls_client_ca=certifier.file))
