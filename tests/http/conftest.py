"""Services that serve HTTP as well as gRPC.

The grpcio engine has a separate listener for HTTP. The Envoy engine serves both on the same port.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from identity_service.storage.sqlite import SqliteStore
from tests.http.site import Site
from tests.rpc.conftest import ENVOY, GRPCIO, marked_settings, running, running_in_envoy, settings_for_tests
from tests.rpc.engines import EnvoyHost
from tests.rpc.envoy_inside import StoreAddress
from tests.tls import Certifier

StartSite = Callable[..., Site]
ANY_PORT = "127.0.0.1:0"


@pytest.fixture(scope="session")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyHost]:
    """An Envoy that serves HTTP on the port of gRPC, for all tests of this folder."""
    settings = settings_for_tests(engine=ENVOY, http_listen=ANY_PORT)
    with closing(EnvoyHost(settings, tmp_path_factory.mktemp("envoy"))) as host:
        yield host


@contextmanager
def _started(folder: Path, **changes: object) -> Iterator[Site]:
    settings = settings_for_tests(**({"http_listen": ANY_PORT, "issuer": "https://id.example"} | changes))
    with running(settings, lambda clock: SqliteStore.open(str(folder / "identity.db"), clock=clock)) as world:
        yield Site(world, f"127.0.0.1:{world.service.http_port}")


@pytest.fixture(params=(GRPCIO, ENVOY))
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    changes = {"http_listen": ANY_PORT, "issuer": "https://id.example"} | marked_settings(request)
    if request.param == ENVOY:
        host: EnvoyHost = request.getfixturevalue("envoy")
        settings = settings_for_tests(engine=ENVOY, **changes)
        store = StoreAddress(kind="sqlite", place=str(tmp_path / "identity.db"))
        with running_in_envoy(host, settings, store, tmp_path) as world:
            yield Site(world, host.http_listen)
    else:
        with _started(tmp_path, **changes) as started:
            yield started


@pytest.fixture
def certifier(tmp_path: Path) -> Certifier:
    """A certificate authority with a folder of its own."""
    return Certifier(tmp_path / "tls")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartSite]:
    """A function that starts a service with given settings, on the grpcio engine and SQLite."""
    with ExitStack() as cleanup:
        yield lambda **changes: cleanup.enter_context(_started(tmp_path, **changes))
